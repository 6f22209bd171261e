-- +goose Up
-- The columns that the product has too bear the product's names and hold its
-- numbers. Times are seconds since 1970, 0 for none, except upgradefinishtime,
-- which is YYYY:MM:DD:HH:MM in local time, empty for none.
CREATE TABLE device (
    name                   TEXT    NOT NULL COLLATE NOCASE PRIMARY KEY,
    model                  TEXT    NOT NULL DEFAULT '',
    authenticationstring   TEXT    NOT NULL DEFAULT '',
    tkauthenticationmode   INTEGER NOT NULL,
    keyorder               INTEGER NOT NULL,
    tkkeysize              INTEGER NOT NULL,
    eckeysize              INTEGER NOT NULL DEFAULT 0,
    issuer                 TEXT    NOT NULL DEFAULT '',
    signing                TEXT    NOT NULL DEFAULT '',
    tkcertificateoperation INTEGER NOT NULL,
    upgradefinishtime      TEXT    NOT NULL DEFAULT '',
    tkcertificatestatus    INTEGER NOT NULL,
    reason                 TEXT    NOT NULL DEFAULT '',
    code                   TEXT    NOT NULL DEFAULT '',
    lastcontact            INTEGER NOT NULL DEFAULT 0,
    lsc                    BLOB,
    publickey              BLOB,
    lscvaliduntil          INTEGER NOT NULL DEFAULT 0,
    lscissuername          TEXT    NOT NULL DEFAULT '',
    lscissuervaliduntil    INTEGER NOT NULL DEFAULT 0,
    csr                    BLOB,
    csrtime                INTEGER NOT NULL DEFAULT 0,
    issued                 BLOB,
    issuedissuervaliduntil INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX device_status ON device (tkcertificatestatus);
CREATE INDEX device_valid ON device (lscvaliduntil) WHERE lscvaliduntil > 0;

-- +goose Down
DROP TABLE device;
