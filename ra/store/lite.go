package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// lite makes the changes that every enrolment needs, on SQLite's driver itself:
// what database/sql does around a statement costs as much as the statement.
// It belongs to the writer of a [group].
type lite struct {
	conn    driver.Conn
	stmts   map[string]driver.Stmt
	of      driver.Conn // whose the statements are
	args    []driver.NamedValue
	values  []any            // of a statement, one at a time
	highest map[string]int64 // request numbers by authority, within a transaction
	lines   []*line          // for the audit log, of one transaction
	// statements counts what was executed.
	statements atomic.Int64
}

// transact makes changes in one transaction.
func (l *lite) transact(changes []*change) (err error) {
	l.lines = l.lines[:0]
	for _, c := range changes {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if c.line != nil {
			l.lines = append(l.lines, c.line)
		}
	}
	writeLines(l.lines) // what the database knows is in the log, even if the database fails
	if _, err := l.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	clear(l.highest)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil {
			_, _ = l.exec("ROLLBACK") // err says what is wrong
		}
	}()
	for _, c := range changes {
		if err := c.quick(l); err != nil {
			return err
		}
	}
	_, err = l.exec("COMMIT")
	return err
}

// stmt is a statement, prepared once.
func (l *lite) stmt(query string) (driver.Stmt, error) {
	if l.of != l.conn {
		l.close()
		l.stmts, l.of = map[string]driver.Stmt{}, l.conn
	}
	if s := l.stmts[query]; s != nil {
		return s, nil
	}
	s, err := l.conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	l.stmts[query] = s
	return s, nil
}

func (l *lite) bind(args []any) []driver.NamedValue {
	l.args = l.args[:0]
	for i, a := range args {
		if n, ok := a.(int); ok {
			a = int64(n)
		}
		l.args = append(l.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return l.args
}

// exec executes a statement and says how many rows it changed.
func (l *lite) exec(query string, args ...any) (n int64, err error) {
	done, err := l.run(query, args)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// insert executes a statement that inserts one row or none, and returns the row's
// number in its table (https://sqlite.org/lang_createtable.html#rowid), 0 for none.
func (l *lite) insert(query string, args ...any) (row int64, err error) {
	done, err := l.run(query, args)
	if err != nil {
		return 0, err
	}
	if n, err := done.RowsAffected(); n == 0 || err != nil {
		return 0, err
	}
	return done.LastInsertId()
}

func (l *lite) run(query string, args []any) (driver.Result, error) {
	l.statements.Add(1)
	s, err := l.stmt(query)
	if err != nil {
		return nil, err
	}
	sc, ok := s.(driver.StmtExecContext)
	if !ok {
		return nil, errDriver
	}
	return sc.ExecContext(context.Background(), l.bind(args))
}

// number asks for one number.
func (l *lite) number(query string, args ...any) (n int64, err error) {
	l.statements.Add(1)
	s, err := l.stmt(query)
	if err != nil {
		return 0, err
	}
	sc, ok := s.(driver.StmtQueryContext)
	if !ok {
		return 0, errDriver
	}
	rows, err := sc.QueryContext(context.Background(), l.bind(args))
	if err != nil {
		return 0, err
	}
	row := make([]driver.Value, 1)
	if err := errors.Join(rows.Next(row), rows.Close()); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n, ok = row[0].(int64)
	if !ok {
		return 0, fmt.Errorf("%q answers %v, which is no number", query, row[0])
	}
	return n, nil
}

var errDriver = errors.New("SQLite's driver does not execute prepared statements with a context")

// highestOf is the highest request number of an authority, asked for once in a
// transaction.
func (l *lite) highestOf(authority string) (int64, error) {
	if n, ok := l.highest[authority]; ok {
		return n, nil
	}
	n, err := l.number(selectHighest, authority)
	if err != nil {
		return 0, err
	}
	if l.highest == nil {
		l.highest = map[string]int64{}
	}
	l.highest[authority] = n
	return n, nil
}

func (l *lite) close() {
	for _, s := range l.stmts {
		_ = s.Close() // the connection is being closed, or is gone
	}
	l.stmts = nil
}
