import express from 'express';
import { ipKeyGenerator, rateLimit } from 'express-rate-limit';
import helmet from 'helmet';
import { randomUUID } from 'node:crypto';
import pino from 'pino';
import { pinoHttp } from 'pino-http';
import { RedisStore } from 'rate-limit-redis';
import { identify } from './auth.js';
import { config } from './config.js';
import { accounts, notes, shop } from './others.js';
import { notFound, onProblem } from './problems.js';
import { redis } from './redis.js';
import { tasks } from './tasks.js';

const ID = /^[A-Za-z0-9._-]{1,64}$/;
export const app = express();

app.disable('x-powered-by');
app.use(
  pinoHttp({
    logger: pino(pino.destination({ dest: 1, sync: false })),
    genReqId(req, res) {
      const given = req.headers['x-request-id'];
      const id = ID.test(given ?? '') ? given : randomUUID();
      res.setHeader('X-Request-ID', id);
      return id;
    },
    // A line as ours has: no header of the request, above all no token.
    serializers: {
      req: ({ id, method, url, remoteAddress }) => ({ id, method, url, remoteAddress }),
      res: ({ statusCode }) => ({ statusCode }),
    },
  }),
);
app.use(helmet());
app.get('/health', (req, res) => {
  res.set('Cache-Control', 'no-store').json({ status: 'ok' });
});
app.use(identify);
app.use(
  rateLimit({
    windowMs: 60_000,
    limit: config.limit,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    keyGenerator: (req) => req.actor?.id ?? ipKeyGenerator(req.ip),
    store: new RedisStore({ sendCommand: (command, ...args) => redis.call(command, ...args) }),
  }),
);
app.use(express.json({ limit: '1mb' }));
app.use('/v1/tasks', tasks);
app.use('/v1/notes', notes);
app.use('/v1/shop', shop);
app.use('/v1/accounts', accounts);
app.use(() => {
  throw notFound();
});
app.use(onProblem);
