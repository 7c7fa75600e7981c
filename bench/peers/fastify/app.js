import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import Fastify from 'fastify';
import { randomUUID } from 'node:crypto';
import pino from 'pino';
import { identify } from './auth.js';
import { config } from './config.js';
import { accountRoutes, noteRoutes, shopRoutes } from './others.js';
import { notFound, onProblem } from './problems.js';
import { redis } from './redis.js';
import * as schemas from './schemas.js';
import { taskRoutes } from './tasks.js';

const ID = /^[A-Za-z0-9._-]{1,64}$/;

export async function build() {
  const app = Fastify({
    loggerInstance: pino(pino.destination({ dest: 1, sync: false })),
    disableRequestLogging: true, // two lines each; one is written below
    genReqId: (request) => (ID.test(request.headers['x-request-id'] ?? '') ? request.headers['x-request-id'] : randomUUID()),
    keepAliveTimeout: 75_000,
    bodyLimit: 1_000_000,
    ajv: { customOptions: { removeAdditional: false } },
  });
  app.decorateRequest('actor', null);
  app.setErrorHandler(onProblem);
  app.setNotFoundHandler(() => {
    throw notFound();
  });
  app.addHook('onRequest', async (request, reply) => {
    reply.header('X-Request-ID', request.id);
  });
  app.addHook('onResponse', async (request, reply) => {
    const { method, url, ip } = request;
    request.log.info({ method, url, ip, status: reply.statusCode, took: reply.elapsedTime }, 'request completed');
  });
  await app.register(helmet);
  app.addHook('onRequest', identify);
  await app.register(rateLimit, {
    max: config.limit,
    timeWindow: 60_000,
    redis,
    keyGenerator: (request) => request.actor?.id ?? request.ip,
    enableDraftSpec: true,
  });
  app.get('/health', { config: { rateLimit: false }, schema: { response: { 200: schemas.health } } }, async (request, reply) => {
    reply.header('Cache-Control', 'no-store');
    return { status: 'ok' };
  });
  await app.register(taskRoutes, { prefix: '/v1/tasks' });
  await app.register(noteRoutes, { prefix: '/v1/notes' });
  await app.register(shopRoutes, { prefix: '/v1/shop' });
  await app.register(accountRoutes, { prefix: '/v1/accounts' });
  return app;
}
