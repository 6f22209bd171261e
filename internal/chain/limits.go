package chain

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
)

// Limits on what is read and how long is searched. An appliance takes ten
// certificates and a public trust store has some 150, so that nothing real
// comes near them.
const (
	// MaxInput is the largest file that is read, in bytes.
	MaxInput = 16 << 20
	// MaxCertificates is the largest number of certificates in one file.
	MaxCertificates = 2000
	// MaxIterations is the sum of the iteration counts of a PKCS#12 file that
	// are worked through. The usual counts are 2048 to 10,000 each.
	MaxIterations = 500_000

	// maxCertificate is the largest certificate in bytes. One with a thousand
	// names has some 30 KiB. What it says is shown, and hashed for each key that
	// may have signed it.
	maxCertificate = 256 << 10

	maxPKCS12   = 1 << 20 // bytes of a PKCS#12 file
	maxParts    = 64      // contents of a PKCS#12 file; there are two
	maxBlocks   = 2_100   // blocks in a PEM file, of whatever kind
	maxNotes    = 20      // remarks on one file
	maxDepth    = 24      // levels of nesting in a BER structure
	maxObjects  = 500_000 // elements in a BER structure
	maxSteps    = 2_000   // certificates looked at in the search for a path
	maxVerifies = 300     // signatures verified in all searches of one check, see [effort]
	maxPath     = 100     // certificates in a path, as in OpenSSL
	maxName     = 4096    // bytes of a name; longer ones are compared as they are
	maxRemedies = 10      // certificates that are advised to be taken away or added
	maxRSABits  = 16384   // larger moduli are not verified, as in OpenSSL

	maxComparisons = 500_000 // of a name with a name constraint, in one check
)

// TooLargeError says that an input goes beyond a limit.
type TooLargeError struct {
	Name, What string
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("read %s: refused: %s", e.Name, e.What)
}

// measure walks a BER structure without building anything and says whether it
// stays within the limits. Decoders recurse and allocate an object an element.
func measure(ber []byte) error {
	n := 0
	_, err := measureElement(ber, 0, &n)
	return err
}

// measureElement skips one element and returns what follows it.
func measureElement(b []byte, depth int, n *int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the structure is nested deeper than %d levels", maxDepth)
	}
	if *n++; *n > maxObjects {
		return nil, fmt.Errorf("the structure has more than %d elements", maxObjects)
	}
	constructed, length, b, err := header(b)
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		content := b[:length]
		for constructed && len(content) > 0 {
			if content, err = measureElement(content, depth+1, n); err != nil {
				return nil, err
			}
		}
		return b[length:], nil
	}
	for len(b) < 2 || b[0] != 0 || b[1] != 0 {
		if b, err = measureElement(b, depth+1, n); err != nil {
			return nil, err
		}
	}
	return b[2:], nil
}

var errTruncated = errors.New("the structure ends in the middle of an element")

// header reads identifier and length octets (X.690 section 8.1); length is -1
// for the indefinite form.
func header(b []byte) (constructed bool, length int, rest []byte, err error) {
	if len(b) < 2 {
		return false, 0, nil, errTruncated
	}
	constructed = b[0]&0x20 != 0
	i := 1
	if b[0]&0x1f == 0x1f {
		for i < len(b) && b[i]&0x80 != 0 {
			i++
		}
		i++
	}
	if i >= len(b) {
		return false, 0, nil, errTruncated
	}
	l := int(b[i])
	b = b[i+1:]
	switch {
	case l == 0x80:
		if !constructed {
			return false, 0, nil, errors.New("a primitive element has no length")
		}
		return true, -1, b, nil
	case l < 0x80:
	case l > 0x84 || len(b) < l&0x7f:
		return false, 0, nil, errTruncated
	default:
		k := l & 0x7f
		l = 0
		for _, x := range b[:k] {
			l = l<<8 | int(x)
		}
		b = b[k:]
	}
	if l < 0 || l > len(b) {
		return false, 0, nil, errTruncated
	}
	return constructed, l, b, nil
}

// iterations adds up the INTEGERs in the parameters of a key derivation. One of
// them is the iteration count, wherever it stands, and the others, the length
// of a key or none, are small.
func iterations(params []byte, depth int) (sum int64, err error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("the structure is nested deeper than %d levels", maxDepth)
	}
	for len(params) > 0 && sum < math.MaxInt32 {
		var v asn1.RawValue
		if params, err = asn1.Unmarshal(params, &v); err != nil {
			return 0, err
		}
		n := int64(0)
		switch {
		case v.IsCompound:
			if n, err = iterations(v.Bytes, depth+1); err != nil {
				return 0, err
			}
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger:
			n = count(v.Bytes)
		}
		sum += n
	}
	return sum, nil
}

// count is the value of an INTEGER's content, or a huge one.
func count(b []byte) int64 {
	if len(b) > 4 || len(b) > 0 && b[0]&0x80 != 0 {
		return math.MaxInt32
	}
	n := int64(0)
	for _, x := range b {
		n = n<<8 | int64(x)
	}
	return n
}
