import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import pino from 'pino';
import { config } from './config.js';
import { kept, letters, members, outbox, reminders, tasks, transaction, users } from './database.js';

const log = pino();
const connection = new Redis(config.redis, { maxRetriesPerRequest: null });
const queue = new Queue('work', { connection });

// ---- the relay: what was committed in the outbox goes to the queue

async function relay(row) {
  const options = { jobId: row._id, attempts: 10, backoff: { type: 'exponential', delay: 200 }, removeOnComplete: true };
  await queue.add(row.name, row.payload, options);
  await outbox.deleteOne({ _id: row._id });
}

const changes = outbox.watch([{ $match: { operationType: 'insert' } }]);
changes.on('change', (change) => relay(change.fullDocument).catch((error) => log.error(error)));
changes.on('error', (error) => {
  log.error(error);
  process.exit(1); // whoever supervises starts it anew
});
for await (const row of outbox.find().sort({ _id: 1 })) await relay(row);

// ---- the work

const jobs = {
  // Its letter and the note that it is sent: both or neither, so it is written once.
  async 'tasks.reminder_past_due'({ reminder_id }) {
    const letter = await transaction(async (session) => {
      const reminder = await reminders.findOne({ _id: reminder_id, state: 'waiting', at: { $lte: new Date() } }, { session });
      if (!reminder) return null;
      const task = await tasks.findOne({ _id: reminder.task_id, status: 'open' }, { session });
      const sees = await members.findOne({ _id: `${reminder.project_id}:${reminder.user_id}` }, { session });
      const user = await users.findOne({ _id: reminder.user_id }, { session });
      const now = new Date();
      const became = task && sees && user ? { state: 'sent', sent_at: now } : { state: 'dropped' };
      const step = { $set: { ...became, updated_at: now }, $inc: { version: 1 } };
      await reminders.updateOne({ _id: reminder_id, state: 'waiting' }, step, { session });
      if (became.state === 'dropped') return null;
      const data = { title: task.title, due: task.due, task_id: task._id };
      const written = kept({ to: user.email, template: 'reminder', data, state: 'waiting' });
      await letters.insertOne(written, { session });
      return written;
    });
    if (letter) await queue.add('letters.deliver', { letter_id: letter._id }, { jobId: letter._id, removeOnComplete: true });
  },
  // There is nobody to write to here: the letter is marked, as our inbox of development keeps it.
  async 'letters.deliver'({ letter_id }) {
    await letters.updateOne({ _id: letter_id, state: 'waiting' }, { $set: { state: 'sent', updated_at: new Date() } });
  },
};

new Worker('work', (job) => jobs[job.name](job.data), { connection: connection.duplicate(), concurrency: 16 }).on(
  'failed',
  (job, error) => log.error({ job: job?.id, error }, 'job_failed'),
);
process.on('SIGTERM', () => process.exit(0));
