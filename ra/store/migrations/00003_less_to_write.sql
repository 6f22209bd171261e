-- What each enrolment writes is made less. A request's hash follows from the
-- request, and the order of time from the ID (UUID version 7); the index of
-- request numbers has only those that there are. The states of open requests are
-- those that sort from 'pending' on (pending, submitting, unknown): SQLite makes
-- a table for every list that it compares with. From here on it holds requests
-- and certificates in DER; those in PEM stay as they are.

-- +goose Up
DROP INDEX requests_created;
DROP INDEX requests_req_id;
DROP INDEX requests_open;
CREATE INDEX requests_req_id ON requests (authority, req_id) WHERE req_id > 0;
CREATE INDEX requests_open ON requests (next_at) WHERE state >= 'pending';
ALTER TABLE requests DROP COLUMN csr_hash;

-- +goose Down
ALTER TABLE requests ADD COLUMN csr_hash TEXT NOT NULL DEFAULT '';
DROP INDEX requests_open;
DROP INDEX requests_req_id;
CREATE INDEX requests_open ON requests (next_at) WHERE state IN ('submitting', 'unknown', 'pending');
CREATE INDEX requests_req_id ON requests (authority, req_id);
CREATE INDEX requests_created ON requests (created_at);
