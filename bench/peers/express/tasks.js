import { Router } from 'express';
import mongoose from 'mongoose';
import { z } from 'zod';
import { signedIn } from './auth.js';
import { tell } from './live.js';
import { Member, Outbox, Reminder, Task } from './models.js';
import { forbidden, full, notFound, parsed, Problem, stale } from './problems.js';

const MOST_REMINDERS = 20;
export const tasks = Router();

const Listing = z.object({
  status: z.enum(['open', 'done']).optional(),
  sort: z.enum(['created_at', '-created_at']).default('-created_at'),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  after: z.string().max(500).optional(),
  q: z.string().max(200).default(''),
});
const TaskPatch = z.strictObject({
  title: z.string().trim().min(1).max(200).optional(),
  description: z.string().max(20_000).optional(),
  labels: z.array(z.string().trim().toLowerCase().min(1).max(50)).max(20).optional(),
  priority: z.number().int().min(0).max(5).optional(),
});
const NewReminder = z
  .strictObject({
    at: z.iso.datetime({ offset: true }).optional(),
    minutes_before_due: z.number().int().min(0).max(525_600).optional(),
  })
  .refine((form) => (form.at === undefined) !== (form.minutes_before_due === undefined), 'Exactly one of the two');

const shown = (task) => ({
  created_at: task.created_at,
  updated_at: task.updated_at,
  version: task.version,
  id: task._id,
  project_id: task.project_id,
  title: task.title,
  description: task.description,
  labels: task.labels,
  priority: task.priority,
  due: task.due,
  recurrence: task.recurrence,
  assignees: task.assignees,
  parent_id: task.parent_id,
  position: task.position,
  status: task.status,
  completed_at: task.completed_at,
  completed_by: task.completed_by,
  next_id: task.next_id,
  created_by: task.created_by,
});

const shownReminder = (reminder) => ({
  created_at: reminder.created_at,
  updated_at: reminder.updated_at,
  version: reminder.version,
  id: reminder._id,
  task_id: reminder.task_id,
  at: reminder.at,
  minutes_before_due: reminder.minutes_before_due,
  channel: reminder.channel,
  sent_at: reminder.sent_at,
});

async function memberOf(project, actor) {
  const member = await Member.findById(`${project}:${actor.id}`).lean();
  if (!member) throw notFound();
  return member;
}

async function taskInPath(req) {
  const task = await Task.findById(req.params.task).lean();
  if (!task) throw notFound();
  return { task, member: await memberOf(task.project_id, req.actor) };
}

function ifMatch(req) {
  const given = req.get('if-match');
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

tasks.get('/projects/:project/tasks', signedIn, async (req, res) => {
  const { status, sort, limit, after, q } = parsed(Listing, req.query);
  const member = await memberOf(req.params.project, req.actor);
  const where = { project_id: member.project_id, ...(status && { status }) };
  const words = q.match(/[\p{L}\p{N}_]+/gu) ?? [];
  if (words.length) {
    const search = words.map((word) => `"${word}"`).join(' '); // all of them, not any
    const found = await Task.find({ ...where, $text: { $search: search } }, { score: { $meta: 'textScore' } })
      .sort({ score: { $meta: 'textScore' }, _id: -1 })
      .limit(limit)
      .lean();
    return res.json({ items: found.map(shown), next: null });
  }
  const way = sort.startsWith('-') ? -1 : 1;
  const found = await Task.find(after ? { ...where, ...beyond(after, way) } : where)
    .sort({ created_at: way, _id: way })
    .limit(limit + 1)
    .lean();
  const items = found.slice(0, limit);
  res.json({ items: items.map(shown), next: found.length > limit ? packed(items.at(-1)) : null });
});

tasks.get('/:task', signedIn, async (req, res) => {
  const { task } = await taskInPath(req);
  res.set('ETag', `"${task.version}"`).json(shown(task));
});

tasks.patch('/:task', signedIn, async (req, res) => {
  const patch = parsed(TaskPatch, req.body);
  const wanted = ifMatch(req);
  let { task, member } = await taskInPath(req);
  if (member.role === 'viewer') throw forbidden();
  for (;;) {
    if (wanted !== undefined && wanted !== task.version) throw stale();
    const changed = await Task.findOneAndUpdate(
      { _id: task._id, version: task.version },
      { $set: { ...patch, updated_at: new Date() }, $inc: { version: 1 } },
      { returnDocument: 'after' },
    ).lean();
    if (changed) {
      tell(changed, 'task_changed');
      return res.set('ETag', `"${changed.version}"`).json(shown(changed));
    }
    task = await Task.findById(task._id).lean(); // somebody was faster
    if (!task) throw notFound();
  }
});

tasks.get('/:task/reminders', signedIn, async (req, res) => {
  const { limit } = parsed(Listing.pick({ limit: true }), req.query);
  const { task } = await taskInPath(req);
  const found = await Reminder.find({ task_id: task._id, user_id: req.actor.id })
    .sort({ at: 1, _id: 1 })
    .limit(limit)
    .lean();
  res.json({ items: found.map(shownReminder), next: null });
});

// The task's counter, the reminder and the event that tells of it: all or none.
tasks.post('/:task/reminders', signedIn, async (req, res) => {
  const form = parsed(NewReminder, req.body);
  const { task, member } = await taskInPath(req);
  if (form.at === undefined && !task.due) throw new Problem(422, 'reminder_needs_due', 'The task has no due date.');
  const at = form.at === undefined ? new Date(task.due - form.minutes_before_due * 60_000) : new Date(form.at);
  const own = { project_id: task.project_id, task_id: task._id, user_id: member.user_id };
  const reminder = await mongoose.connection.transaction(async (session) => {
    const held = await Task.updateOne({ _id: task._id }, { $inc: { reminders: 1 } }, { session });
    if (!held.matchedCount) throw notFound();
    const there = await Reminder.countDocuments({ task_id: own.task_id, user_id: own.user_id }, { session, limit: MOST_REMINDERS });
    if (there >= MOST_REMINDERS) throw full(MOST_REMINDERS);
    const [made] = await Reminder.create([{ ...own, at, minutes_before_due: form.minutes_before_due ?? null }], { session });
    if (at <= new Date()) {
      await Outbox.create([{ name: 'tasks.reminder_past_due', payload: { reminder_id: made._id } }], { session });
    }
    return made;
  });
  res.status(201).location(`/v1/tasks/${task._id}/reminders`).set('ETag', '"1"').json(shownReminder(reminder));
});
