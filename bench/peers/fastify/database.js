import { MongoClient, ObjectId } from 'mongodb';
import { config } from './config.js';

export const client = new MongoClient(config.mongo, { maxPoolSize: 32 });
const db = client.db(config.database);
export const tasks = db.collection('tasks');
export const members = db.collection('members');
export const reminders = db.collection('reminders');
export const outbox = db.collection('outbox');
export const letters = db.collection('letters');
export const notes = db.collection('notes');
export const revisions = db.collection('revisions');
export const shelves = db.collection('shelves');
export const users = db.collection('users');
export const sessions = db.collection('sessions');
export const audit = db.collection('audit');
export const products = db.collection('products');
export const pictures = db.collection('pictures');

export const newId = () => new ObjectId().toHexString();

// What every document has.
export function kept(fields) {
  const now = new Date();
  return { _id: newId(), created_at: now, updated_at: now, version: 1, ...fields };
}

export const transaction = (work) => client.withSession((session) => session.withTransaction(() => work(session)));

const text = (weights, keys) => [keys, { weights, default_language: 'none', language_override: '_language' }];
const indexes = [
  [tasks, [{ project_id: 1, created_at: -1, _id: -1 }]],
  [tasks, [{ project_id: 1, position: 1 }, { unique: true }]],
  [tasks, text({ title: 10, description: 1 }, { project_id: 1, title: 'text', description: 'text' })],
  [members, [{ user_id: 1 }]],
  [reminders, [{ task_id: 1, user_id: 1, at: 1 }]],
  [notes, [{ owner: 1, state: 1, created_at: -1, _id: -1 }]],
  [notes, [{ owner: 1, state: 1, updated_at: -1, _id: -1 }]],
  [notes, [{ owner: 1, sequence: 1 }]],
  [notes, text({ title: 10, tags: 10, body: 1 }, { owner: 1, title: 'text', tags: 'text', body: 'text' })],
  [revisions, [{ note_id: 1, number: 1 }, { unique: true }]],
  [users, [{ email: 1 }, { unique: true }]],
  [sessions, [{ account: 1, _id: -1 }]],
  [sessions, [{ ends_at: 1 }, { expireAfterSeconds: 24 * 3600 }]],
  [audit, [{ about: 1, _id: -1 }]],
  [products, [{ availability: 1, created_at: -1, _id: -1 }]],
];

// Collections and indexes: once, before the processes begin.
export async function prepare() {
  for (const name of ['shelves', 'outbox', 'letters', 'pictures']) await db.createCollection(name);
  for (const [collection, given] of indexes) await collection.createIndex(...given);
}
