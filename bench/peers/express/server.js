import cluster from 'node:cluster';
import { createServer } from 'node:http';
import mongoose from 'mongoose';
import { config } from './config.js';
import { connect, prepare } from './models.js';

async function serve() {
  await connect();
  const [{ app }, { attach }] = await Promise.all([import('./app.js'), import('./live.js')]);
  const server = createServer({ keepAliveTimeout: 75_000 }, app);
  attach(server);
  server.listen(config.port, '127.0.0.1');
  process.on('SIGTERM', () => process.exit(0));
}

if (cluster.isPrimary) {
  await connect();
  await prepare();
  if (config.processes === 1) {
    await serve();
  } else {
    await mongoose.disconnect();
    for (let each = 0; each < config.processes; each += 1) cluster.fork();
    process.on('SIGTERM', () => {
      for (const each of Object.values(cluster.workers)) each.process.kill('SIGTERM');
      process.exit(0);
    });
  }
} else {
  await serve();
}
