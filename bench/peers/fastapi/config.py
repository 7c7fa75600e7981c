"""What the environment tells: the same for every peer."""

from os import environ

MONGO, REDIS, DATABASE = environ["MONGO_URL"], environ["REDIS_URL"], environ["DATABASE"]
FILES, LIMIT = environ["FILES"], int(environ.get("LIMIT", "3000"))
ISSUER, AUDIENCE, KEY_ID = environ["ISSUER"], environ["AUDIENCE"], environ["JWT_KID"]
PRIVATE_KEY, PUBLIC_KEY = environ["JWT_PRIVATE"], environ["JWT_PUBLIC"]
