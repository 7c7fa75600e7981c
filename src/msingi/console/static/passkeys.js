"use strict";
// A button with `data-passkey` asks the device for a passkey, puts what it answers into its form and sends that. Its value
// is either what the device is asked (JSON) or the address that tells it, with a ticket.
// `bytes` and `text` are those of console/base64url.js, which a page loads before this.

function readable(options) {
  const allowed = options.allowCredentials.map((each) => ({ ...each, id: bytes(each.id) }));
  return { ...options, challenge: bytes(options.challenge), allowCredentials: allowed };
}

function told(credential) {
  const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
  const response = {
    clientDataJSON: text(clientDataJSON),
    authenticatorData: text(authenticatorData),
    signature: text(signature),
    userHandle: userHandle === null ? null : text(userHandle),
  };
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response };
}

async function asked(button) {
  const { passkey } = button.dataset;
  if (passkey.startsWith("{")) return JSON.parse(passkey);
  const headers = { "X-CSRF-Token": button.form.elements._csrf.value };
  const reply = await fetch(passkey, { method: "POST", headers });
  if (!reply.ok) throw new Error(reply.statusText);
  const { ticket, options } = await reply.json();
  button.form.elements.ticket.value = ticket;
  return options;
}

async function show(button) {
  const fault = button.form.querySelector("[data-passkey-fault]");
  fault.hidden = true;
  try {
    const credential = await navigator.credentials.get({ publicKey: readable(await asked(button)) });
    button.form.elements.credential.value = JSON.stringify(told(credential));
    button.form.submit();
  } catch {
    fault.hidden = false;
  }
}

for (const button of document.querySelectorAll("[data-passkey]")) {
  button.hidden = !window.PublicKeyCredential;
  button.addEventListener("click", () => show(button));
}
