# token-monitor, for docker-compose.remote.yml. Needs BuildKit, which Docker has used by default since 23.0. There is no
# syntax line on purpose: it would fetch a frontend from Docker Hub, and the one that is built in is enough.
#
#   docker build -t token-monitor:0.1.0 .

# The compiler that rust-toolchain.toml names, and the Debian that the last stage has.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# Without symbols: a sixth of the size. Both caches stay with the builder; what is wanted is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo build --release --locked \
    && install -D target/release/token-monitor /out/usr/local/bin/token-monitor

# Certificates for databases and chat services, and zones for TIMEZONE, without the packages that they come with.
FROM debian:bookworm-slim AS files
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
    && mkdir -p /out/usr/share && cp -a /usr/share/zoneinfo /out/usr/share/ \
    # Of zones spelt otherwise: with leap seconds, and POSIX a second time.
    && rm -rf /out/usr/share/zoneinfo/right /out/usr/share/zoneinfo/posix
# Here and not in the last stage, so that they are a part of its only layer. Volumes take their owners from here.
# /config is the working directory, where limits.yml is looked for; /history holds the file that `backfill` writes,
# which Prometheus's promtool reads as another user of the same group.
RUN install -d -m 700 -o 10001 -g 10001 /out/data \
    && install -d -m 755 /out/config /out/secrets \
    && install -d -m 2770 -o 10001 -g 10001 /out/history
COPY --from=build /out /out

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="token-monitor" \
      org.opencontainers.image.description="Exact metrics, limits and a circuit breaker for the new-api LLM gateway" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=files /out /
# Measured (docs/performance.md): glibc keeps what was freed after the catch-up, for every thread; with two arenas much
# less. The file of certificates is named because not every library looks there.
ENV MALLOC_ARENA_MAX=2 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    MONITOR_DATABASE_URL=sqlite:///data/monitor.db
# A number, so that `runAsNonRoot` of Kubernetes can tell.
USER 10001:10001
WORKDIR /config
VOLUME /data
EXPOSE 3002
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["token-monitor", "health"]
ENTRYPOINT ["token-monitor"]
CMD ["serve"]
