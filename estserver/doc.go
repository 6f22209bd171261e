// Package estserver is the registration authority's face towards its clients:
// Enrollment over Secure Transport (RFC 7030, RFC 8951) over HTTPS.
//
// The protocol's operations are served by the router of globalsign/est, but for
// enrolments, which it would parse a second time: they are answered as it would. In
// front of it stands a handler that takes what clients really send and gives
// them what they can really read: it authenticates, checks path, method, type
// and size, normalises the body, and writes every answer with an exact length,
// in base64 lines of 64 characters, with header names spelt as libEST wants
// them. What is asked for is decided behind it, by the ra.Enroller that the
// process is wired with.
package estserver
