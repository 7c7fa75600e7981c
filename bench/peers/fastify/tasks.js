import { signedIn } from './auth.js';
import { kept, members, newId, outbox, reminders, tasks, transaction } from './database.js';
import { tell } from './live.js';
import { forbidden, full, notFound, Problem, stale } from './problems.js';
import * as schemas from './schemas.js';

const MOST_REMINDERS = 20;

// The schema of the reply picks the fields.
const shown = (doc) => {
  doc.id = doc._id;
  return doc;
};

async function memberOf(project, actor) {
  const member = await members.findOne({ _id: `${project}:${actor.id}` });
  if (!member) throw notFound();
  return member;
}

async function taskInPath(request) {
  const task = await tasks.findOne({ _id: request.params.task });
  if (!task) throw notFound();
  return { task, member: await memberOf(task.project_id, request.actor) };
}

function ifMatch(request) {
  const given = request.headers['if-match'];
  if (given === undefined) return undefined;
  const found = /^"(\d+)"$/.exec(given);
  if (!found) throw new Problem(400, 'bad_if_match', 'If-Match holds the version of an ETag.');
  return Number(found[1]);
}

const packed = (task) => Buffer.from(JSON.stringify([task.created_at, task._id])).toString('base64url');

function beyond(cursor, way) {
  try {
    const [at, id] = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    const time = new Date(at);
    if (Number.isNaN(time.getTime()) || typeof id !== 'string') throw new Error();
    const step = way < 0 ? '$lt' : '$gt';
    return { $or: [{ created_at: { [step]: time } }, { created_at: time, _id: { [step]: id } }] };
  } catch {
    throw new Problem(422, 'bad_cursor', 'This cursor does not belong to this list.');
  }
}

export async function taskRoutes(app) {
  app.addHook('onRequest', signedIn);

  app.get('/projects/:project/tasks', { schema: { querystring: schemas.taskListing, response: { 200: schemas.tasks } } }, async (request) => {
    const { status, sort, limit, after, q } = request.query;
    const member = await memberOf(request.params.project, request.actor);
    const where = { project_id: member.project_id, ...(status && { status }) };
    const words = q.match(/[\p{L}\p{N}_]+/gu) ?? [];
    if (words.length) {
      const search = words.map((word) => `"${word}"`).join(' '); // all of them, not any
      const score = { $meta: 'textScore' };
      const found = await tasks
        .find({ ...where, $text: { $search: search } })
        .sort({ score, _id: -1 })
        .limit(limit)
        .toArray();
      return { items: found.map(shown), next: null };
    }
    const way = sort.startsWith('-') ? -1 : 1;
    const found = await tasks
      .find(after ? { ...where, ...beyond(after, way) } : where)
      .sort({ created_at: way, _id: way })
      .limit(limit + 1)
      .toArray();
    const items = found.slice(0, limit);
    return { items: items.map(shown), next: found.length > limit ? packed(items.at(-1)) : null };
  });

  app.get('/:task', { schema: { response: { 200: schemas.task } } }, async (request, reply) => {
    const { task } = await taskInPath(request);
    reply.header('ETag', `"${task.version}"`);
    return shown(task);
  });

  app.patch('/:task', { schema: { body: schemas.taskPatch, response: { 200: schemas.task } } }, async (request, reply) => {
    const wanted = ifMatch(request);
    let { task, member } = await taskInPath(request);
    if (member.role === 'viewer') throw forbidden();
    for (;;) {
      if (wanted !== undefined && wanted !== task.version) throw stale();
      const changed = await tasks.findOneAndUpdate(
        { _id: task._id, version: task.version },
        { $set: { ...request.body, updated_at: new Date() }, $inc: { version: 1 } },
        { returnDocument: 'after' },
      );
      if (changed) {
        tell(changed, 'task_changed');
        reply.header('ETag', `"${changed.version}"`);
        return shown(changed);
      }
      task = await tasks.findOne({ _id: task._id }); // somebody was faster
      if (!task) throw notFound();
    }
  });

  app.get('/:task/reminders', { schema: { querystring: schemas.listing, response: { 200: schemas.reminders } } }, async (request) => {
    const { task } = await taskInPath(request);
    const own = { task_id: task._id, user_id: request.actor.id };
    const found = await reminders.find(own).sort({ at: 1, _id: 1 }).limit(request.query.limit).toArray();
    return { items: found.map(shown), next: null };
  });

  // The task's counter, the reminder and the event that tells of it: all or none.
  app.post('/:task/reminders', { schema: { body: schemas.newReminder, response: { 201: schemas.reminder } } }, async (request, reply) => {
    const { at: given, minutes_before_due: minutes = null } = request.body;
    const { task, member } = await taskInPath(request);
    if (given === undefined && !task.due) throw new Problem(422, 'reminder_needs_due', 'The task has no due date.');
    const at = given === undefined ? new Date(task.due - minutes * 60_000) : new Date(given);
    const own = { task_id: task._id, user_id: member.user_id };
    const state = { channel: 'email', state: 'waiting', sent_at: null };
    const reminder = kept({ ...own, project_id: task.project_id, at, minutes_before_due: minutes, ...state });
    await transaction(async (session) => {
      const held = await tasks.updateOne({ _id: task._id }, { $inc: { reminders: 1 } }, { session });
      if (!held.matchedCount) throw notFound();
      const there = await reminders.countDocuments(own, { session, limit: MOST_REMINDERS });
      if (there >= MOST_REMINDERS) throw full(MOST_REMINDERS);
      await reminders.insertOne(reminder, { session });
      if (at <= reminder.created_at) {
        const payload = { reminder_id: reminder._id };
        await outbox.insertOne({ _id: newId(), created_at: new Date(), name: 'tasks.reminder_past_due', payload }, { session });
      }
    });
    reply.code(201).header('Location', `/v1/tasks/${task._id}/reminders`).header('ETag', '"1"');
    return shown(reminder);
  });
}
