export class Problem extends Error {
  constructor(status, code, detail, more = {}) {
    super(detail);
    Object.assign(this, { status, code, more });
  }
}

export const notFound = () => new Problem(404, 'not_found', 'There is nothing here.');
export const forbidden = () => new Problem(403, 'forbidden', 'You may not do that.');
export const stale = () => new Problem(412, 'stale', 'It changed meanwhile; read it again.');
export const full = (most) => new Problem(409, 'full', `There is room for ${most} here.`);
export const signInFirst = () => new Problem(401, 'sign_in_first', 'Sign in first.');

export function parsed(schema, value) {
  const found = schema.safeParse(value);
  if (!found.success) {
    const errors = found.error.issues.map((issue) => ({ pointer: `/${issue.path.join('/')}`, message: issue.message }));
    throw new Problem(422, 'invalid_fields', 'Some fields are not as they should be.', { errors });
  }
  return found.data;
}

// Express knows an error handler by its four arguments.
export function onProblem(error, req, res, next) {
  if (res.headersSent) return next(error);
  let problem = error;
  if (!(error instanceof Problem)) {
    const status = error.status >= 400 && error.status < 500 ? error.status : 500;
    problem = new Problem(status, status === 500 ? 'problem' : 'malformed', status === 500 ? 'Something went wrong.' : error.message);
    if (status === 500) req.log.error(error);
  }
  const { status, code, message, more } = problem;
  res.status(status).type('application/problem+json');
  res.send(JSON.stringify({ type: `/problems/${code}`, title: code, status, detail: message, code, request_id: req.id, ...more }));
}
