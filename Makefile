.PHONY: build test race lint lab bench clean

build: ## the binary, static
	CGO_ENABLED=0 go build -trimpath -o onlineca ./cmd/onlineca

test: ## everything that needs only Go, and what is installed
	go test ./...

race: ## the same with the race detector
	go test -race ./...

lint: ## go vet and the linters of .golangci.yml
	go vet ./...
	golangci-lint run ./...

lab: ## five phones, everything embedded
	go run ./cmd/onlineca lab

bench: ## measurements, never assertions
	go test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf onlineca onlineca-lab
