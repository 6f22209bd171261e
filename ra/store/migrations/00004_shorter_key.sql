-- The key of a request is the first half of its hash: the index of keys, whose
-- pages every enrolment writes, gets half as large.

-- +goose Up
UPDATE requests SET request_key = substr(request_key, 1, 32);

-- +goose Down
-- The other half of a key follows from the request, which comes again with the
-- half that there is.
