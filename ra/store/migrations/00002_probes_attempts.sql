-- probes: what a look at the database's health writes, and removes again.
-- attempts: logins whose outcome is not known yet or that were refused, so that
-- restarts and further processes grant no more wrong passwords. account is the
-- SHA-256 of an account's name; nothing of a password is here. Rows go when
-- they no longer count.

-- +goose Up
CREATE TABLE probes (
    id         TEXT PRIMARY KEY,
    written_at BIGINT NOT NULL,
    filler     TEXT NOT NULL
);
CREATE TABLE attempts (
    id       TEXT PRIMARY KEY,
    scope    TEXT NOT NULL,
    account  TEXT NOT NULL,
    addr     TEXT NOT NULL,
    refused  INTEGER NOT NULL,
    began_at BIGINT NOT NULL
);
CREATE INDEX attempts_account ON attempts (scope, account);
CREATE INDEX attempts_addr ON attempts (scope, addr);
CREATE INDEX attempts_began ON attempts (began_at);

-- +goose Down
DROP TABLE attempts;
DROP TABLE probes;
