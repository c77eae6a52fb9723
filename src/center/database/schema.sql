-- The database of a center. Times are milliseconds since 1970. `sqlite3 -readonly FILE` may look into it at any time.

-- Every message signed.
CREATE TABLE message (
    id        INTEGER PRIMARY KEY,
    audience  TEXT    NOT NULL,             -- a gateway, or 'campus'
    stream    TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    message   TEXT    NOT NULL,             -- the JWS
    claims    TEXT    NOT NULL,             -- its content, for people: `json_extract(claims, '$.ops')`
    delivered INTEGER NOT NULL DEFAULT 0,   -- 1: the broker has it
    ordered_by TEXT,                        -- the client, and behind a colon the person at its console; NULL: not recorded
    UNIQUE (audience, stream, epoch, seq)
);
CREATE INDEX message_undelivered ON message (id) WHERE delivered = 0;

-- The answer to each request with an Idempotency-Key.
CREATE TABLE request (
    client TEXT    NOT NULL,
    key    TEXT    NOT NULL,
    body   BLOB    NOT NULL,                -- SHA-256 of the body
    answer TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) WITHOUT ROWID;
CREATE INDEX request_at ON request (at);

-- Every audit event, byte for byte. `run` rises when a gateway begins its audit again.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    gateway TEXT    NOT NULL,
    run     INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    at      INTEGER NOT NULL,               -- by the gateway's clock
    received INTEGER NOT NULL,              -- by the center's
    type    TEXT    NOT NULL,
    portal  TEXT,
    uid     TEXT,
    holder  TEXT,
    event   TEXT    NOT NULL,
    hash    BLOB    NOT NULL,               -- SHA-256 of `event`
    UNIQUE (gateway, run, n)
);
CREATE INDEX audit_uid ON audit (uid, id) WHERE uid IS NOT NULL;
CREATE INDEX audit_holder ON audit (holder, id) WHERE holder IS NOT NULL;
CREATE INDEX audit_portal ON audit (portal, id) WHERE portal IS NOT NULL;
CREATE INDEX audit_type ON audit (type, gateway, id);
CREATE INDEX audit_at ON audit (at);

-- What the gateways publish beside their audit, as received.
CREATE TABLE ack (
    id      INTEGER PRIMARY KEY,
    gateway TEXT    NOT NULL,
    stream  TEXT    NOT NULL,
    epoch   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    outcome TEXT    NOT NULL,
    at      INTEGER NOT NULL,               -- received here
    body    TEXT    NOT NULL
);
CREATE INDEX ack_number ON ack (stream, epoch, seq);
CREATE TABLE alarm (
    id      INTEGER PRIMARY KEY,
    gateway TEXT    NOT NULL,
    at      INTEGER NOT NULL,               -- received here
    body    TEXT    NOT NULL
);
CREATE TABLE state (
    gateway TEXT    PRIMARY KEY,
    at      INTEGER NOT NULL,               -- received here
    body    TEXT    NOT NULL
) WITHOUT ROWID;
