export class Problem extends Error {
  constructor(status, code, detail, more = {}) {
    super(detail);
    Object.assign(this, { statusCode: status, code, more });
  }
}

export const notFound = () => new Problem(404, 'not_found', 'There is nothing here.');
export const forbidden = () => new Problem(403, 'forbidden', 'You may not do that.');
export const stale = () => new Problem(412, 'stale', 'It changed meanwhile; read it again.');
export const full = (most) => new Problem(409, 'full', `There is room for ${most} here.`);
export const signInFirst = () => new Problem(401, 'sign_in_first', 'Sign in first.');

export function onProblem(error, request, reply) {
  let problem = error;
  if (error.validation) {
    const errors = error.validation.map((each) => ({ pointer: each.instancePath, in: error.validationContext, message: each.message }));
    problem = new Problem(422, 'invalid_fields', 'Some fields are not as they should be.', { errors });
  } else if (!(error instanceof Problem)) {
    const status = error.statusCode >= 400 && error.statusCode < 500 ? error.statusCode : 500;
    if (status === 500) request.log.error(error);
    problem = new Problem(status, status === 500 ? 'problem' : 'malformed', status === 500 ? 'Something went wrong.' : error.message);
  }
  const { statusCode: status, code, message: detail, more } = problem;
  const body = { type: `/problems/${code}`, title: code, status, detail, code, request_id: request.id, ...more };
  reply.code(status).type('application/problem+json').serializer(JSON.stringify).send(body);
}
