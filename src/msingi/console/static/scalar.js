"use strict";
const place = document.getElementById("reader");
Scalar.createApiReference(place, {
  url: place.dataset.source,
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  agent: { disabled: true },
  mcp: { disabled: true },
});
