"use strict";
const place = document.getElementById("reader");
Redoc.init(place.dataset.source, { disableSearch: false, hideDownloadButton: true, nativeScrollbars: true }, place);
