package lab

import "fmt"

// Keys lists the key types that [Config].Key takes.
func Keys() []string { return []string{"p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096"} }

func keyName(key string) string {
	if key == "" {
		return "rsa2048"
	}
	return key
}

// deviceName is the name of the n-th phone: SEP and a MAC address from the
// range that documentation uses.
func deviceName(n int) string { return fmt.Sprintf("SEP00112233%04X", 0x4455+n) }
