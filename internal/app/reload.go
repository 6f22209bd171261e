package app

import (
	"reflect"
	"slices"
	"strings"
)

// reloadable are the settings that take effect when the file is read again,
// each with all that is under it.
var reloadable = []string{"tls", "certsrv.template", "est"}

// startOnly are those under a reloadable one that do not.
var startOnly = []string{"est.plain"}

// restartFor names the settings that differ and do not take effect when they are
// read again.
func restartFor(was, is Settings) []string {
	return slices.DeleteFunc(changedKeys("", reflect.ValueOf(was), reflect.ValueOf(is)), func(key string) bool {
		return belongsTo(reloadable, key) && !belongsTo(startOnly, key)
	})
}

// belongsTo says whether a key is one of others or stands below one.
func belongsTo(others []string, key string) bool {
	return slices.ContainsFunc(others, func(o string) bool { return key == o || strings.HasPrefix(key, o+".") })
}

// changedKeys lists the keys of a section whose values differ, by the names that
// they have in the file.
func changedKeys(prefix string, was, is reflect.Value) (keys []string) {
	if was.Kind() != reflect.Struct {
		if reflect.DeepEqual(was.Interface(), is.Interface()) {
			return nil
		}
		return []string{prefix}
	}
	for i := range was.NumField() {
		name, options, _ := strings.Cut(was.Type().Field(i).Tag.Get("yaml"), ",")
		key := prefix
		if !strings.Contains(options, "inline") {
			key = strings.TrimPrefix(prefix+"."+name, ".")
		}
		keys = append(keys, changedKeys(key, was.Field(i), is.Field(i))...)
	}
	return keys
}
