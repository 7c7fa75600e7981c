"use strict";
// A button with `data-new-passkey` gets from that address what the device is asked for, has it make a passkey, puts what
// it answers into the button's form and sends that.
// `bytes` and `text` are those of console/base64url.js, which a page loads before this.

function readable(options) {
  const excludeCredentials = options.excludeCredentials.map((each) => ({ ...each, id: bytes(each.id) }));
  const user = { ...options.user, id: bytes(options.user.id) };
  return { ...options, challenge: bytes(options.challenge), user, excludeCredentials };
}

function told(credential) {
  const { clientDataJSON, attestationObject } = credential.response;
  const response = {
    clientDataJSON: text(clientDataJSON),
    attestationObject: text(attestationObject),
    transports: credential.response.getTransports?.() ?? [],
  };
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response };
}

async function make(button) {
  const form = button.form;
  const fault = form.querySelector("[data-passkey-fault]");
  fault.hidden = true;
  try {
    const headers = { "X-CSRF-Token": form.elements._csrf.value };
    const reply = await fetch(button.dataset.newPasskey, { method: "POST", headers });
    if (!reply.ok) throw new Error(reply.statusText);
    const { ticket, options } = await reply.json();
    const credential = await navigator.credentials.create({ publicKey: readable(options) });
    form.elements.ticket.value = ticket;
    form.elements.credential.value = JSON.stringify(told(credential));
    form.submit();
  } catch {
    fault.hidden = false;
  }
}

for (const button of document.querySelectorAll("[data-new-passkey]")) {
  button.hidden = !window.PublicKeyCredential;
  button.form.querySelector("[data-without-passkeys]").hidden = !button.hidden;
  button.addEventListener("click", () => make(button));
}
