-- One row for each request that the registration authority has taken up. The
-- same text serves SQLite and PostgreSQL: times are microseconds since 1970,
-- truth values 0 or 1, requests and certificates PEM.

-- +goose Up
CREATE TABLE requests (
    id            TEXT PRIMARY KEY,
    authority     TEXT NOT NULL,
    request_key   TEXT NOT NULL,
    is_current    INTEGER NOT NULL,
    csr           TEXT NOT NULL,
    csr_hash      TEXT NOT NULL,
    subject       TEXT NOT NULL,
    operation     TEXT NOT NULL,
    label         TEXT NOT NULL,
    template      TEXT NOT NULL,
    client_name   TEXT NOT NULL,
    client_method TEXT NOT NULL,
    client_addr   TEXT NOT NULL,
    state         TEXT NOT NULL,
    attempts      INTEGER NOT NULL,
    req_id        BIGINT NOT NULL,
    after_req_id  BIGINT NOT NULL,
    certificate   TEXT NOT NULL,
    serial        TEXT NOT NULL,
    not_after     BIGINT NOT NULL,
    code          TEXT NOT NULL,
    message       TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    submitted_at  BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    next_at       BIGINT NOT NULL,
    tries         INTEGER NOT NULL,
    lease_owner   TEXT NOT NULL,
    lease_until   BIGINT NOT NULL,
    audited       INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX requests_current ON requests (request_key) WHERE is_current = 1;
CREATE INDEX requests_open ON requests (next_at) WHERE state IN ('submitting', 'unknown', 'pending');
CREATE INDEX requests_unaudited ON requests (updated_at) WHERE state = 'issued' AND audited = 0;
CREATE INDEX requests_req_id ON requests (authority, req_id);
CREATE INDEX requests_created ON requests (created_at);

-- +goose Down
DROP TABLE requests;
