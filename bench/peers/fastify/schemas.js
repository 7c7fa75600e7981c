// What comes in is checked, and what goes out is written, by functions that are compiled from these.
const string = { type: 'string' };
const integer = { type: 'integer' };
const time = { type: 'string', format: 'date-time' };
const maybe = (schema) => ({ ...schema, nullable: true });
const object = (properties, more = {}) => ({ type: 'object', properties, ...more });
const form = (properties, required = []) => object(properties, { required, additionalProperties: false });
const page = (items) => object({ items: { type: 'array', items }, next: maybe(string) });
const limit = { type: 'integer', minimum: 1, maximum: 100, default: 20 };
const labels = { type: 'array', maxItems: 20, items: { type: 'string', minLength: 1, maxLength: 50 } };

export const health = object({ status: string });

export const task = object({
  created_at: time,
  updated_at: time,
  version: integer,
  id: string,
  project_id: string,
  title: string,
  description: string,
  labels: { type: 'array', items: string },
  priority: integer,
  due: maybe(time),
  recurrence: maybe(object({ rule: string, time_zone: string })),
  assignees: { type: 'array', items: string },
  parent_id: maybe(string),
  position: string,
  status: string,
  completed_at: maybe(time),
  completed_by: maybe(string),
  next_id: maybe(string),
  created_by: string,
});
export const tasks = page(task);

export const reminder = object({
  created_at: time,
  updated_at: time,
  version: integer,
  id: string,
  task_id: string,
  at: maybe(time),
  minutes_before_due: maybe(integer),
  channel: string,
  sent_at: maybe(time),
});
export const reminders = page(reminder);

export const note = object({
  id: string,
  title: string,
  excerpt: string,
  tags: { type: 'array', items: string },
  pinned: { type: 'boolean' },
  state: string,
  trashed_at: maybe(time),
  created_at: time,
  updated_at: time,
  version: integer,
  body: string,
  html: string,
});

export const picture = object({
  id: string,
  file: string,
  width: integer,
  height: integer,
  url: string,
  jpeg_url: string,
  sizes: object({}, { additionalProperties: string }),
});

export const signedIn = object({ access_token: string, refresh_token: string, token_type: string, expires_in: integer });

export const listing = object({ limit });
export const taskListing = object({
  status: { enum: ['open', 'done'] },
  sort: { enum: ['created_at', '-created_at'], default: '-created_at' },
  limit,
  after: { type: 'string', maxLength: 500 },
  q: { type: 'string', maxLength: 200, default: '' },
});
export const taskPatch = form({
  title: { type: 'string', minLength: 1, maxLength: 200 },
  description: { type: 'string', maxLength: 20_000 },
  labels,
  priority: { type: 'integer', minimum: 0, maximum: 5 },
});
export const newReminder = {
  ...form({ at: time, minutes_before_due: { type: 'integer', minimum: 0, maximum: 525_600 } }),
  oneOf: [{ required: ['at'] }, { required: ['minutes_before_due'] }],
};
export const newNote = form(
  {
    title: { type: 'string', minLength: 1, maxLength: 200 },
    body: { type: 'string', maxLength: 100_000, default: '' },
    tags: { ...labels, default: [] },
  },
  ['title'],
);
export const signIn = form(
  { email: { type: 'string', maxLength: 320 }, password: { type: 'string', maxLength: 1024 }, session: { enum: ['token'] } },
  ['email', 'password'],
);
