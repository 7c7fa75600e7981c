import mongoose, { Schema } from 'mongoose';
import { config } from './config.js';

const id = { type: String, default: () => new mongoose.Types.ObjectId().toString() };
const options = { versionKey: false, autoIndex: false };
const times = { created_at: { type: Date, default: Date.now }, updated_at: { type: Date, default: Date.now } };
const kept = { _id: id, ...times, version: { type: Number, default: 1 } };

const taskSchema = new Schema(
  {
    ...kept,
    project_id: { type: String, required: true },
    title: { type: String, required: true },
    description: { type: String, default: '' },
    labels: { type: [String], default: [] },
    priority: { type: Number, default: 0 },
    due: { type: Date, default: null },
    recurrence: { type: Schema.Types.Mixed, default: null },
    assignees: { type: [String], default: [] },
    parent_id: { type: String, default: null },
    position: String,
    status: { type: String, enum: ['open', 'done'], default: 'open' },
    completed_at: { type: Date, default: null },
    completed_by: { type: String, default: null },
    next_id: { type: String, default: null },
    created_by: String,
    reminders: { type: Number, default: 0 },
  },
  options,
);
taskSchema.index({ project_id: 1, created_at: -1, _id: -1 });
taskSchema.index({ project_id: 1, position: 1 }, { unique: true });
taskSchema.index(
  { project_id: 1, title: 'text', description: 'text' },
  { weights: { title: 10, description: 1 }, default_language: 'none', language_override: '_language' },
);

const memberSchema = new Schema({ ...kept, project_id: String, user_id: String, role: String }, options);
memberSchema.index({ user_id: 1 });

const projectSchema = new Schema({ ...kept, name: String, owner_id: String, description: String }, options);

const reminderSchema = new Schema(
  {
    ...kept,
    project_id: String,
    task_id: String,
    user_id: String,
    at: { type: Date, default: null },
    minutes_before_due: { type: Number, default: null },
    channel: { type: String, default: 'email' },
    state: { type: String, default: 'waiting' },
    sent_at: { type: Date, default: null },
  },
  options,
);
reminderSchema.index({ task_id: 1, user_id: 1, at: 1 });

const outboxSchema = new Schema(
  { _id: id, created_at: { type: Date, default: Date.now }, name: String, payload: Schema.Types.Mixed },
  options,
);

const letterSchema = new Schema(
  { ...kept, to: String, template: String, data: Schema.Types.Mixed, state: { type: String, default: 'waiting' } },
  options,
);

const noteSchema = new Schema(
  {
    ...kept,
    owner: { type: String, required: true },
    title: { type: String, required: true },
    body: { type: String, default: '' },
    tags: { type: [String], default: [] },
    pinned: { type: Boolean, default: false },
    state: { type: String, default: 'active' },
    trashed_at: { type: Date, default: null },
    sequence: { type: Number, default: 0 },
  },
  options,
);
noteSchema.index({ owner: 1, state: 1, created_at: -1, _id: -1 });
noteSchema.index({ owner: 1, state: 1, updated_at: -1, _id: -1 });
noteSchema.index({ owner: 1, sequence: 1 });
noteSchema.index(
  { owner: 1, title: 'text', tags: 'text', body: 'text' },
  { weights: { title: 10, tags: 10, body: 1 }, default_language: 'none', language_override: '_language' },
);

const revisionSchema = new Schema(
  { ...kept, note_id: String, owner: String, number: Number, title: String, body: String, tags: [String] },
  options,
);
revisionSchema.index({ note_id: 1, number: 1 }, { unique: true });

const shelfSchema = new Schema(
  { _id: String, ...times, version: { type: Number, default: 1 }, sequence: Number, notes: Number },
  options,
);

const userSchema = new Schema(
  { _id: id, email: String, name: String, password: String, roles: [String], disabled: Boolean, created_at: Date },
  options,
);
userSchema.index({ email: 1 }, { unique: true });

const sessionSchema = new Schema(
  {
    ...kept,
    account: String,
    current: Buffer,
    generation: { type: Number, default: 0 },
    methods: [String],
    user_agent: String,
    address: String,
    ends_at: Date,
  },
  options,
);
sessionSchema.index({ account: 1, _id: -1 });
sessionSchema.index({ ends_at: 1 }, { expireAfterSeconds: 24 * 3600 });

const auditSchema = new Schema(
  { _id: id, created_at: { type: Date, default: Date.now }, kind: String, actor: String, about: String, data: Schema.Types.Mixed },
  options,
);
auditSchema.index({ about: 1, _id: -1 });

const productSchema = new Schema(
  {
    _id: id,
    slug: String,
    title: Schema.Types.Mixed,
    brand: String,
    category_id: String,
    tags: [String],
    picture: Schema.Types.Mixed,
    price: Schema.Types.Mixed,
    compare_at: Schema.Types.Mixed,
    from_price: Boolean,
    variants: Number,
    availability: String,
    created_at: Date,
  },
  options,
);
productSchema.index({ availability: 1, created_at: -1, _id: -1 });

const pictureSchema = new Schema(
  {
    _id: String,
    ...times,
    version: { type: Number, default: 1 },
    file: String,
    width: Number,
    height: Number,
    sizes: Schema.Types.Mixed,
    by: String,
    used_at: Date,
  },
  options,
);

export const Task = mongoose.model('Task', taskSchema, 'tasks');
export const Member = mongoose.model('Member', memberSchema, 'members');
export const Project = mongoose.model('Project', projectSchema, 'projects');
export const Reminder = mongoose.model('Reminder', reminderSchema, 'reminders');
export const Outbox = mongoose.model('Outbox', outboxSchema, 'outbox');
export const Letter = mongoose.model('Letter', letterSchema, 'letters');
export const Note = mongoose.model('Note', noteSchema, 'notes');
export const Revision = mongoose.model('Revision', revisionSchema, 'revisions');
export const Shelf = mongoose.model('Shelf', shelfSchema, 'shelves');
export const User = mongoose.model('User', userSchema, 'users');
export const Session = mongoose.model('Session', sessionSchema, 'sessions');
export const Audit = mongoose.model('Audit', auditSchema, 'audit');
export const Product = mongoose.model('Product', productSchema, 'products');
export const Picture = mongoose.model('Picture', pictureSchema, 'pictures');

export async function connect() {
  await mongoose.connect(config.mongo, { dbName: config.database, maxPoolSize: 32, autoCreate: false });
}

// Collections and indexes: once, before the processes begin.
export async function prepare() {
  for (const model of Object.values(mongoose.models)) {
    await model.createCollection();
    await model.createIndexes();
  }
}
