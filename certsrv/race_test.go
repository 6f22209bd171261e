//go:build race

package certsrv

const raceDetector = true
