import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';
import { actorOf } from './auth.js';
import { config } from './config.js';
import { members } from './database.js';

const TOPIC = /^tasks\/projects\/([A-Za-z0-9_.~-]{1,64})$/;
let io;

// Websocket only, so that several processes behind one port need no sticky routing.
export function attach(server) {
  const publisher = new Redis(config.redis);
  io = new Server(server, {
    transports: ['websocket'],
    serveClient: false,
    maxHttpBufferSize: 64_000,
    pingInterval: 20_000,
    pingTimeout: 20_000,
    // A channel of its own: what is published reaches all databases of a Redis.
    adapter: createAdapter(publisher, publisher.duplicate(), { key: config.database }),
  });
  io.use((socket, next) => {
    try {
      socket.data.actor = actorOf(socket.handshake.auth?.token);
      next();
    } catch (problem) {
      next(problem);
    }
  });
  io.on('connection', (socket) => {
    socket.on('subscribe', async (given, answer) => {
      if (typeof answer !== 'function') return;
      try {
        const found = TOPIC.exec(given?.topic ?? '');
        const sees = found && (await members.findOne({ _id: `${found[1]}:${socket.data.actor.id}` }, { projection: { _id: 1 } }));
        if (!sees) return answer({ error: { code: 'no_such_topic', status: 404 } });
        await socket.join(given.topic);
        answer({ ok: true });
      } catch {
        answer({ error: { code: 'problem', status: 500 } });
      }
    });
    socket.on('unsubscribe', async (given, answer) => {
      await socket.leave(String(given?.topic));
      answer?.({ ok: true });
    });
  });
}

export function tell(task, kind, more = {}) {
  const topic = `tasks/projects/${task.project_id}`;
  io.to(topic).emit('message', { topic, kind, data: { task_id: task._id, version: task.version, ...more } });
}
