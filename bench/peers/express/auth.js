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
  return sign({
    sub: user._id,
    sid: session,
    jti: crypto.randomUUID(),
    nbf: Math.floor(Date.now() / 1000),
    amr: ['pwd'],
    auth_time: Math.floor(Date.now() / 1000),
    roles: user.roles,
    name: user.name,
  });
}

// Who asks, if they say so; a wrong token is refused also where none is needed.
export function identify(req, res, next) {
  const header = req.get('authorization');
  if (header === undefined) return next();
  if (!header.startsWith('Bearer ')) throw signInFirst();
  req.actor = actorOf(header.slice(7));
  next();
}

export function signedIn(req, res, next) {
  if (!req.actor) throw signInFirst();
  next();
}

export const role = (name) => (req, res, next) => {
  if (!req.actor) throw signInFirst();
  if (!req.actor.roles.includes(name)) throw forbidden();
  next();
};
