import cluster from 'node:cluster';
import { config } from './config.js';
import { client, prepare } from './database.js';

async function serve() {
  const [{ build }, { attach }] = await Promise.all([import('./app.js'), import('./live.js')]);
  const app = await build();
  attach(app.server);
  await app.listen({ port: config.port, host: '127.0.0.1' });
  process.on('SIGTERM', () => process.exit(0));
}

if (cluster.isPrimary) {
  await prepare();
  if (config.processes === 1) {
    await serve();
  } else {
    await client.close();
    for (let each = 0; each < config.processes; each += 1) cluster.fork();
    process.on('SIGTERM', () => {
      for (const each of Object.values(cluster.workers)) each.process.kill('SIGTERM');
      process.exit(0);
    });
  }
} else {
  await serve();
}
