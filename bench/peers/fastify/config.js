// What the environment tells: the same for every peer.
const { env } = process;

export const config = {
  port: Number(env.PORT),
  processes: Number(env.PROCESSES ?? 1),
  mongo: env.MONGO_URL,
  redis: env.REDIS_URL,
  database: env.DATABASE,
  files: env.FILES,
  limit: Number(env.LIMIT ?? 3000),
  issuer: env.ISSUER,
  audience: env.AUDIENCE,
  privateKey: env.JWT_PRIVATE,
  publicKey: env.JWT_PUBLIC,
  kid: env.JWT_KID,
};
