package app

// CheckFiles reads every file that the settings name and reports all that is
// wrong with them, and warnings about what is not wrong but unwise.
func CheckFiles(s Settings) (warnings []string, err error) {
	p, err := s.load()
	return p.warnings, err
}
