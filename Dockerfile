# The load balancer as a small image: two executables, the native library, and the tools that the box needs.
#
#   docker build -t ilb .
#   docker run --network host --cap-add NET_ADMIN --cap-add NET_RAW -v ilb:/var/lib/ilb ilb
#   docker exec CONTAINER ilbadm show-rule
#
# The daemon runs as root inside the container: with `--user`, `--cap-add` alone gives a process no capability.

FROM debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# scripts/task installs the pinned Bun, the packages of bun.lock and the C compiler by itself.
RUN sh scripts/task build --release

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends iproute2 libmnl0 nftables \
 && rm -rf /var/lib/apt/lists/*
# Both programs look for the library beside themselves.
COPY --from=build /src/dist/release/ /usr/lib/ilb/
RUN ln -s /usr/lib/ilb/ilbd /usr/lib/ilb/ilbadm /usr/local/bin/
VOLUME /var/lib/ilb
STOPSIGNAL SIGTERM
ENTRYPOINT ["ilbd"]
CMD ["run"]
