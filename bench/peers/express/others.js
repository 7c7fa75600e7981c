import { hash, verify } from '@node-rs/argon2';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Router } from 'express';
import MarkdownIt from 'markdown-it';
import mongoose from 'mongoose';
import sanitizeHtml from 'sanitize-html';
import { z } from 'zod';
import { role, signedIn, tokenFor } from './auth.js';
import { config } from './config.js';
import { Audit, Note, Picture, Product, Revision, Session, Shelf, User } from './models.js';
import { full, parsed, Problem } from './problems.js';
import { redis } from './redis.js';

const MOST_NOTES = 10_000;
const EXCERPT = 200;
const LARGEST = 20_000_000;
const PNG = Buffer.from('89504e470d0a1a0a', 'hex');
const COSTS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const markdown = new MarkdownIt('commonmark', { html: false });
const sessionLength = 30 * 24 * 3600 * 1000;

// ---- notes

export const notes = Router();

const NewNote = z.strictObject({
  title: z.string().trim().min(1).max(200),
  body: z.string().max(100_000).default(''),
  tags: z.array(z.string().trim().toLowerCase().min(1).max(50)).max(20).default([]),
});

notes.post('/', signedIn, async (req, res) => {
  const form = parsed(NewNote, req.body);
  const owner = req.actor.id;
  const note = await mongoose.connection.transaction(async (session) => {
    const shelf = await Shelf.findOneAndUpdate(
      { _id: owner },
      { $inc: { sequence: 1, notes: 1, version: 1 }, $set: { updated_at: new Date() } },
      { upsert: true, returnDocument: 'after', session },
    ).lean();
    if (shelf.notes > MOST_NOTES) throw full(MOST_NOTES);
    const [made] = await Note.create([{ ...form, tags: [...new Set(form.tags)], owner, sequence: shelf.sequence }], { session });
    const { title, body, tags } = made;
    await Revision.create([{ note_id: made._id, owner, number: 1, title, body, tags }], { session });
    return made;
  });
  res.status(201).location(`/v1/notes/${note._id}`).set('ETag', '"1"');
  res.json({
    id: note._id,
    title: note.title,
    excerpt: note.body.slice(0, EXCERPT),
    tags: note.tags,
    pinned: note.pinned,
    state: note.state,
    trashed_at: note.trashed_at,
    created_at: note.created_at,
    updated_at: note.updated_at,
    version: note.version,
    body: note.body,
    html: sanitizeHtml(markdown.render(note.body)),
  });
});

// ---- the shop

export const shop = Router();

const Listing = z.object({ limit: z.coerce.number().int().min(1).max(100).default(20) });

shop.get('/products', async (req, res) => {
  const { limit } = parsed(Listing, req.query);
  const key = `products:-created_at:${limit}`;
  let text = await redis.get(key);
  if (text === null) {
    const found = await Product.find({ availability: 'published' }).sort({ created_at: -1, _id: -1 }).limit(limit + 1).lean();
    const items = found.slice(0, limit).map(({ _id, availability, created_at, ...rest }) => ({ id: _id, ...rest }));
    const last = found[limit - 1];
    const next = found.length > limit ? Buffer.from(JSON.stringify([last.created_at, last._id])).toString('base64url') : null;
    text = JSON.stringify({ items, next });
    await redis.set(key, text, 'EX', 300);
  }
  res.type('application/json').send(text);
});

const KINDS = { 'image/png': 'png' };

shop.post('/pictures', role('admin'), async (req, res) => {
  const ending = KINDS[req.get('content-type')];
  if (!ending) throw new Problem(415, 'unsupported_media', 'Send a picture.');
  const arriving = join(config.files, `arriving-${randomUUID()}`);
  try {
    const digest = await arrived(req, arriving);
    const now = new Date();
    let picture = await Picture.findOneAndUpdate(
      { _id: digest },
      { $set: { used_at: now, updated_at: now }, $inc: { version: 1 } },
      { returnDocument: 'after' },
    ).lean();
    if (!picture) {
      const { width, height } = await measured(arriving);
      const file = `${digest}.${ending}`;
      await rename(arriving, join(config.files, file));
      const sizes = Object.fromEntries([320, 640, 1280].map((each) => [each, file]));
      picture = await Picture.create({ _id: digest, file, width, height, sizes, by: req.actor.id, used_at: now });
    }
    const url = (file) => `/files/${file}`;
    res.status(201).location(`/v1/shop/pictures/${digest}`).json({
      id: digest,
      file: picture.file,
      width: picture.width,
      height: picture.height,
      url: url(picture.file),
      jpeg_url: url(picture.file),
      sizes: Object.fromEntries(Object.entries(picture.sizes).map(([width, file]) => [width, url(file)])),
    });
  } finally {
    await rm(arriving, { force: true });
  }
});

// Piece by piece to the disk, counted and hashed on its way.
async function arrived(req, path) {
  const digest = createHash('sha256');
  let size = 0;
  const counted = new Transform({
    transform(piece, encoding, done) {
      size += piece.length;
      if (size > LARGEST) return done(new Problem(413, 'too_large', 'That is too large.'));
      digest.update(piece);
      done(null, piece);
    },
  });
  await pipeline(req, counted, createWriteStream(path));
  return digest.digest('hex');
}

async function measured(path) {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(24), 0, 24, 0);
    if (!buffer.subarray(0, 8).equals(PNG)) throw new Problem(415, 'unsupported_media', 'That is no picture.');
    return { width: buffer.readUInt32BE(16), height: buffer.readUInt32BE(20) };
  } finally {
    await file.close();
  }
}

// ---- signing in

export const accounts = Router();

const SignIn = z.strictObject({ email: z.string().max(320), password: z.string().max(1024), session: z.literal('token').optional() });
const wrongCredentials = () => new Problem(401, 'wrong_credentials', 'Address or password is wrong.');
const nobodys = hash(randomBytes(16).toString('hex'), COSTS); // so that it takes as long where there is nobody

accounts.post('/sign-in', async (req, res) => {
  const form = parsed(SignIn, req.body);
  const email = form.email.trim().toLowerCase();
  const tries = `tries:${email}`;
  if (Number(await redis.get(tries)) >= 10) throw new Problem(429, 'too_many_tries', 'Too many tries.');
  const user = await User.findOne({ email }).lean();
  const known = await verify(user?.password ?? (await nobodys), form.password);
  if (!user || !known) {
    await redis.multi().incr(tries).expire(tries, 900).exec();
    throw wrongCredentials();
  }
  if (user.disabled) throw new Problem(403, 'account_disabled', 'This account is disabled.');
  const secret = randomBytes(48).toString('base64url');
  const opened = await mongoose.connection.transaction(async (session) => {
    const [made] = await Session.create(
      [
        {
          account: user._id,
          current: createHash('sha256').update(secret).digest(),
          methods: ['pwd'],
          user_agent: req.get('user-agent') ?? '',
          address: req.ip,
          ends_at: new Date(Date.now() + sessionLength),
        },
      ],
      { session },
    );
    await Audit.create([{ kind: 'accounts.signed_in', actor: user._id, about: user._id, data: { session: made._id } }], { session });
    return made;
  });
  res.set('Cache-Control', 'no-store').json({
    access_token: tokenFor(user, opened._id),
    refresh_token: `rt1_${opened._id}_${secret}`,
    token_type: 'Bearer',
    expires_in: 600,
  });
});
