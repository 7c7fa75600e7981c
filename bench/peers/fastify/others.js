import { hash, verify } from '@node-rs/argon2';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import MarkdownIt from 'markdown-it';
import sanitizeHtml from 'sanitize-html';
import { admin, signedIn, tokenFor } from './auth.js';
import { config } from './config.js';
import { audit, kept, newId, notes, pictures, products, revisions, sessions, shelves, transaction, users } from './database.js';
import { full, Problem } from './problems.js';
import { redis } from './redis.js';
import * as schemas from './schemas.js';

const MOST_NOTES = 10_000;
const EXCERPT = 200;
const LARGEST = 20_000_000;
const PNG = Buffer.from('89504e470d0a1a0a', 'hex');
const COSTS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const SESSION = 30 * 24 * 3600 * 1000;
const markdown = new MarkdownIt('commonmark', { html: false });

// ---- notes

export async function noteRoutes(app) {
  app.addHook('onRequest', signedIn);

  app.post('/', { schema: { body: schemas.newNote, response: { 201: schemas.note } } }, async (request, reply) => {
    const { body } = request.body;
    const owner = request.actor.id;
    const title = request.body.title.trim();
    const tags = [...new Set(request.body.tags.map((tag) => tag.trim().toLowerCase()))];
    if (!title || tags.includes('')) throw new Problem(422, 'invalid_fields', 'A title and a tag need more than blanks.');
    const more = { pinned: false, state: 'active', trashed_at: null, sequence: 0 };
    const note = kept({ owner, title, body, tags, ...more });
    await transaction(async (session) => {
      const shelf = await shelves.findOneAndUpdate(
        { _id: owner },
        { $inc: { sequence: 1, notes: 1, version: 1 }, $set: { updated_at: new Date() }, $setOnInsert: { created_at: new Date() } },
        { upsert: true, returnDocument: 'after', session },
      );
      if (shelf.notes > MOST_NOTES) throw full(MOST_NOTES);
      note.sequence = shelf.sequence;
      await notes.insertOne(note, { session });
      await revisions.insertOne(kept({ note_id: note._id, owner, number: 1, title, body, tags }), { session });
    });
    reply.code(201).header('Location', `/v1/notes/${note._id}`).header('ETag', '"1"');
    return { ...note, id: note._id, excerpt: body.slice(0, EXCERPT), html: sanitizeHtml(markdown.render(body)) };
  });
}

// ---- the shop

export async function shopRoutes(app) {
  app.get('/products', { schema: { querystring: schemas.listing } }, async (request, reply) => {
    const { limit } = request.query;
    const key = `products:-created_at:${limit}`;
    let text = await redis.get(key);
    if (text === null) {
      const found = await products.find({ availability: 'published' }).sort({ created_at: -1, _id: -1 }).limit(limit + 1).toArray();
      const items = found.slice(0, limit).map(({ _id, availability, created_at, ...rest }) => ({ id: _id, ...rest }));
      const last = found[limit - 1];
      const next = found.length > limit ? Buffer.from(JSON.stringify([last.created_at, last._id])).toString('base64url') : null;
      text = JSON.stringify({ items, next });
      await redis.set(key, text, 'EX', 300);
    }
    return reply.type('application/json').send(text);
  });

  // Pictures are not held in memory: the handler reads the stream.
  app.register(async (part) => {
    part.removeAllContentTypeParsers();
    part.addContentTypeParser('image/png', (request, payload, done) => done(null, payload));
    part.post('/pictures', { onRequest: admin, bodyLimit: LARGEST, schema: { response: { 201: schemas.picture } } }, async (request, reply) => {
      const arriving = join(config.files, `arriving-${randomUUID()}`);
      try {
        const digest = await arrived(request.body, arriving);
        const now = new Date();
        let picture = await pictures.findOneAndUpdate(
          { _id: digest },
          { $set: { used_at: now, updated_at: now }, $inc: { version: 1 } },
          { returnDocument: 'after' },
        );
        if (!picture) {
          const { width, height } = await measured(arriving);
          const file = `${digest}.png`;
          await rename(arriving, join(config.files, file));
          const sizes = Object.fromEntries([320, 640, 1280].map((each) => [each, file]));
          picture = { ...kept({ file, width, height, sizes, by: request.actor.id, used_at: now }), _id: digest };
          await pictures.insertOne(picture);
        }
        const url = (file) => `/files/${file}`;
        reply.code(201).header('Location', `/v1/shop/pictures/${digest}`);
        return {
          ...picture,
          id: digest,
          url: url(picture.file),
          jpeg_url: url(picture.file),
          sizes: Object.fromEntries(Object.entries(picture.sizes).map(([width, file]) => [width, url(file)])),
        };
      } finally {
        await rm(arriving, { force: true });
      }
    });
  });
}

// Piece by piece to the disk, counted and hashed on its way.
async function arrived(stream, path) {
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
  await pipeline(stream, counted, createWriteStream(path));
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

const nobodys = hash(randomBytes(16).toString('hex'), COSTS); // so that it takes as long where there is nobody

export async function accountRoutes(app) {
  app.post('/sign-in', { schema: { body: schemas.signIn, response: { 200: schemas.signedIn } } }, async (request, reply) => {
    const email = request.body.email.trim().toLowerCase();
    const tries = `tries:${email}`;
    if (Number(await redis.get(tries)) >= 10) throw new Problem(429, 'too_many_tries', 'Too many tries.');
    const user = await users.findOne({ email });
    const known = await verify(user?.password ?? (await nobodys), request.body.password);
    if (!user || !known) {
      await redis.multi().incr(tries).expire(tries, 900).exec();
      throw new Problem(401, 'wrong_credentials', 'Address or password is wrong.');
    }
    if (user.disabled) throw new Problem(403, 'account_disabled', 'This account is disabled.');
    const secret = randomBytes(48).toString('base64url');
    const opened = kept({
      account: user._id,
      current: createHash('sha256').update(secret).digest(),
      generation: 0,
      methods: ['pwd'],
      user_agent: request.headers['user-agent'] ?? '',
      address: request.ip,
      ends_at: new Date(Date.now() + SESSION),
    });
    await transaction(async (session) => {
      await sessions.insertOne(opened, { session });
      const told = { kind: 'accounts.signed_in', actor: user._id, about: user._id, data: { session: opened._id } };
      await audit.insertOne({ _id: newId(), created_at: new Date(), ...told }, { session });
    });
    reply.header('Cache-Control', 'no-store');
    const access_token = tokenFor(user, opened._id);
    return { access_token, refresh_token: `rt1_${opened._id}_${secret}`, token_type: 'Bearer', expires_in: 600 };
  });
}
