-- The key of a request is the first half of its hash: the index of keys, whose
-- pages every enrolment writes, gets half as large. The column has another name, so
-- that a process of an older version, which knows requests by the longer key,
-- stops rather than submit them again.

-- +goose Up
UPDATE requests SET request_key = substr(request_key, 1, 32);
ALTER TABLE requests RENAME COLUMN request_key TO short_key;

-- +goose Down
-- The other half of a key follows from the request, which comes again with the
-- half that there is.
ALTER TABLE requests RENAME COLUMN short_key TO request_key;
