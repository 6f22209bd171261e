-- What each enrolment writes is made less. A request's hash follows from the
-- request, and the order of time from the ID (UUID version 7); the index of
-- request numbers has only those that there are. From here on SQLite holds
-- requests and certificates in DER; those in PEM stay as they are.

-- +goose Up
DROP INDEX requests_created;
DROP INDEX requests_req_id;
CREATE INDEX requests_req_id ON requests (authority, req_id) WHERE req_id > 0;
ALTER TABLE requests DROP COLUMN csr_hash;

-- +goose Down
ALTER TABLE requests ADD COLUMN csr_hash TEXT NOT NULL DEFAULT '';
DROP INDEX requests_req_id;
CREATE INDEX requests_req_id ON requests (authority, req_id);
CREATE INDEX requests_created ON requests (created_at);
