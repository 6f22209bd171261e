# The registration authority, the settings being mounted at /etc/onlineca:
#   docker build -t onlineca .
#   docker run -p 8084:8084 -v "$PWD/settings:/etc/onlineca:ro" -v onlineca:/var/lib/onlineca onlineca
# They need "listen: 0.0.0.0:8084" and "state: /var/lib/onlineca", and the user
# 65532 must be able to read the password file.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /onlineca ./cmd/onlineca \
 && mkdir /state && chown 65532:65532 /state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /onlineca /onlineca
COPY --from=build --chown=65532:65532 /state /var/lib/onlineca
USER 65532:65532
EXPOSE 8084
VOLUME /var/lib/onlineca
# Asks the EST server itself whether it answers, with the same settings.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["/onlineca", "healthcheck", "--config", "/etc/onlineca/onlineca.yaml"]
ENTRYPOINT ["/onlineca"]
CMD ["serve", "--config", "/etc/onlineca/onlineca.yaml"]
