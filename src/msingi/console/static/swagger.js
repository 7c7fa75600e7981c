"use strict";
const place = document.getElementById("reader");
window.ui = SwaggerUIBundle({
  url: place.dataset.source,
  domNode: place,
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
