-- Numbers that were used before, behind `after` up to `to`: the gateway has other messages under them, so its acks of them do not count.
CREATE TABLE used (
    gateway     TEXT    NOT NULL,
    stream      TEXT    NOT NULL,
    after_epoch INTEGER NOT NULL,
    after_seq   INTEGER NOT NULL,
    to_epoch    INTEGER NOT NULL,
    to_seq      INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream)
) WITHOUT ROWID;
