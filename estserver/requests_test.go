package estserver_test

import (
	"encoding/base64"
	"strings"
)

// Requests that Go itself would not make, made with openssl 3.0.

// rsa512CSR has an RSA key of 512 bits.
var rsa512CSR = mustDecode(`
MIHTMH8CAQAwGjEYMBYGA1UEAwwPU0VQMDAxMTIyMzM0NDU1MFwwDQYJKoZIhvcNAQEBBQADSwAw
SAJBALw6/XdNAAfMJ7PeKlWpWQ4ShJi+2wkEFhHUAynlV2JcYcmhtcQCI126F7z/6f8TooW1u+is
nRcs2hamrKJj5e8CAwEAAaAAMA0GCSqGSIb3DQEBCwUAA0EAIJ46yVHI6ktASeqGe2TpbQGza536
P1Q+8UYQT6+mDYyZ/Y1r7RbkPksmufbzkGke0GUs91SibvYrjfX4xhGaFQ==`)

// brainpoolCSR has a key on brainpoolP256r1.
var brainpoolCSR = mustDecode(`
MIHVMH0CAQAwGjEYMBYGA1UEAwwPU0VQMDAxMTIyMzM0NDU1MFowFAYHKoZIzj0CAQYJKyQDAwII
AQEHA0IABAQYyCLk6m1C7Erl5YHmCH2GZMIFTsJrZo7xYCYn9PKJli1to64VO5VFMKp90cBsLBxc
txOK7dksoDu+IvjSnNCgADAKBggqhkjOPQQDAgNIADBFAiEAgOwJsoeaZJItafF5YCJy1XBcPyGU
PauTMW+e/di4SeMCICSAK4NUqgXRTM+XEoIRfZeQGhOfNsYt82MclAj1eEqb`)

func mustDecode(s string) []byte {
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(s, "\n", ""))
	if err != nil {
		panic(err)
	}
	return der
}
