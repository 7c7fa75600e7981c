import { createSigner, createVerifier } from 'fast-jwt';
import { config } from './config.js';
import { forbidden, signInFirst } from './problems.js';

const verify = createVerifier({
  key: config.publicKey,
  algorithms: ['EdDSA'],
  checkTyp: 'at+jwt',
  allowedIss: config.issuer,
  allowedAud: config.audience,
  requiredClaims: ['sub', 'sid', 'exp'],
  cache: 10_000,
});

const sign = createSigner({
  key: config.privateKey,
  algorithm: 'EdDSA',
  kid: config.kid,
  header: { typ: 'at+jwt' },
  iss: config.issuer,
  aud: config.audience,
  expiresIn: 600_000,
});

export function actorOf(token) {
  try {
    const claims = verify(token);
    return { id: claims.sub, session: claims.sid, roles: claims.roles ?? [] };
  } catch {
    throw signInFirst();
  }
}

export function tokenFor(user, session) {
  const at = Math.floor(Date.now() / 1000);
  const more = { jti: crypto.randomUUID(), nbf: at, amr: ['pwd'], auth_time: at };
  return sign({ sub: user._id, sid: session, ...more, roles: user.roles, name: user.name });
}

// Who asks, if they say so; a wrong token is refused also where none is needed.
export async function identify(request) {
  const header = request.headers.authorization;
  if (header === undefined) return;
  if (!header.startsWith('Bearer ')) throw signInFirst();
  request.actor = actorOf(header.slice(7));
}

export async function signedIn(request) {
  if (!request.actor) throw signInFirst();
}

export async function admin(request) {
  if (!request.actor) throw signInFirst();
  if (!request.actor.roles.includes('admin')) throw forbidden();
}
