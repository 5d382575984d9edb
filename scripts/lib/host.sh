# What scripts/test, scripts/demo and the benches share: installing what the machine lacks, and a throwaway
# PostgreSQL. Sourced by bash.
# shellcheck shell=bash

say() { printf '\n\033[1m==> %s\033[0m\n' "$*" | if [[ -t 1 && -z ${NO_COLOR:-} ]]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { warn "$*"; exit 1; }

# The folder of PostgreSQL's server programs, newest version first; empty where there is none. POSTGRES_PROGRAMS names
# another one.
postgres_programs() {
    local initdb
    if [[ -n ${POSTGRES_PROGRAMS:-} ]]; then echo "$POSTGRES_PROGRAMS"; return; fi
    initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb | sort -rV | while read -r one; do
        [[ -x $one ]] && echo "$one" && break
    done)
    [[ -n $initdb ]] || initdb=$(command -v initdb || true)
    if [[ -n $initdb ]]; then dirname "$(readlink -f "$initdb")"; fi
}

# Installs Debian packages without starting what they bring. A policy-rc.d of the machine's own that forbids
# starting anyway stays where it is; any other is put aside and put back.
install_packages() {
    local policy=/usr/sbin/policy-rc.d aside="" status=0 log
    if [[ $(id -u) -ne 0 ]]; then
        warn "missing: $*. As root:  apt-get update && apt-get install --no-install-recommends $*"
        return 1
    fi
    if ! command -v apt-get >/dev/null; then
        warn "missing: $* (Debian's names), and there is no apt-get to install them with"
        return 1
    fi
    say "installing from the distribution: $*"
    if [[ -x $policy ]] && { "$policy" postgresql start >/dev/null 2>&1; [[ $? -eq 101 ]]; }; then
        policy=""
    else
        if [[ -e $policy || -L $policy ]]; then
            aside=$policy.aside.$$
            mv "$policy" "$aside"
        fi
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    log=$(mktemp)
    # Signals are held back until the machine's own file is in its place again.
    trap '' INT TERM HUP
    (
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q && apt-get install -q -y --no-install-recommends "$@"
    ) >"$log" 2>&1 || status=$?
    if [[ -n $policy ]]; then
        rm -f "$policy"
        if [[ -n $aside ]]; then mv "$aside" "$policy"; fi
    fi
    trap - INT TERM HUP
    if [[ $status -ne 0 ]]; then
        tail -20 "$log" >&2
        warn "apt-get failed with $status while installing $*"
    fi
    rm -f "$log"
    return "$status"
}

# Prints the Debian packages that bring what this machine lacks to build and to run against PostgreSQL.
missing_packages() {
    command -v cc >/dev/null || echo gcc
    [[ -e /usr/include/stdlib.h ]] || echo libc6-dev
    [[ -n $(postgres_programs) ]] || echo postgresql
    [[ -e /usr/share/zoneinfo/Africa/Casablanca ]] || echo tzdata
    command -v runuser >/dev/null || echo util-linux
    command -v free >/dev/null && command -v vmstat >/dev/null || echo procps
    command -v openssl >/dev/null || echo openssl
    command -v mmdebstrap >/dev/null || echo mmdebstrap
    command -v dockerd >/dev/null && command -v docker >/dev/null || echo docker.io
    command -v docker-compose >/dev/null || echo docker-compose
    command -v ip >/dev/null || echo iproute2
    command -v nginx >/dev/null || [[ -x /usr/sbin/nginx ]] || echo nginx
    command -v rsyslogd >/dev/null || [[ -x /usr/sbin/rsyslogd ]] || echo rsyslog
    command -v prometheus >/dev/null && command -v promtool >/dev/null || echo prometheus
    command -v certbot >/dev/null || echo certbot
    command -v pebble >/dev/null || echo pebble
    [[ -d /usr/lib/python3/dist-packages/aiosmtpd ]] || echo python3-aiosmtpd
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# An S3 server for tests (moto, from PyPI) in a virtual environment under target/: made once, by one caller while the
# others wait.
install_s3() {
    local folder=target/test-s3
    if [[ -x $folder/bin/moto_server ]]; then return 0; fi
    mkdir -p target
    (
        flock -w 900 9
        if [[ -x $folder/bin/moto_server ]]; then exit 0; fi
        say "installing from PyPI: moto[server]"
        rm -rf "$folder"
        # A script of the environment names its folder: it is made where it stays, and without its server it counts for nothing.
        { python3 -m venv "$folder" && timeout 600 "$folder/bin/pip" install -q 'moto[server]>=5,<6'; } >"$folder.log" 2>&1 \
            || { tail -20 "$folder.log" >&2; rm -rf "$folder"; exit 1; }
    ) 9>target/test-s3.lock || { warn "there is no S3 server for the tests: python3-venv, and PyPI, are needed"; return 1; }
}

need_rust() {
    command -v cargo >/dev/null || [[ ! -x $HOME/.cargo/bin/cargo ]] || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die "there is no cargo: install Rust first (rust-toolchain.toml names the version)"
}

# A port of the loopback that is free now.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# wait_until SECONDS COMMAND…: until the command succeeds.
wait_until() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= until)); then return 1; fi
        sleep 0.1
    done
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if [[ $(id -u) -eq 0 ]]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# start_postgres DIR [SETTING…]: a cluster of its own under DIR on a free loopback port. Sets PGHOST, PGPORT,
# PGUSER and POSTGRES_PID. Not durable: it lives as long as the script.
start_postgres() {
    local directory=$1 setting options=()
    shift
    for setting in fsync=off synchronous_commit=off full_page_writes=off "$@"; do options+=(-c "$setting"); done
    POSTGRES_BIN=$(postgres_programs)
    [[ -n $POSTGRES_BIN ]] || die "there is no PostgreSQL server on this machine (package postgresql)"
    mkdir -p "$directory"
    if [[ $(id -u) -eq 0 ]]; then chown postgres "$directory"; fi
    as_postgres "$POSTGRES_BIN/initdb" -D "$directory/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync \
        >"$directory.log" 2>&1 || { cat "$directory.log" >&2; die "initdb failed"; }
    PGPORT=$(free_port)
    # exec: the pid is the server's own, also through runuser (which waits for its child).
    if [[ $(id -u) -eq 0 ]]; then
        setpriv --reuid postgres --regid postgres --init-groups -- "$POSTGRES_BIN/postgres" -D "$directory/data" \
            -p "$PGPORT" -c listen_addresses=127.0.0.1 -k "$directory" "${options[@]}" >>"$directory.log" 2>&1 &
    else
        "$POSTGRES_BIN/postgres" -D "$directory/data" \
            -p "$PGPORT" -c listen_addresses=127.0.0.1 -k "$directory" "${options[@]}" >>"$directory.log" 2>&1 &
    fi
    POSTGRES_PID=$!
    export PGHOST=127.0.0.1 PGPORT PGUSER=postgres
    PATH=$POSTGRES_BIN:$PATH
    wait_until 30 pg_isready -q || { cat "$directory.log" >&2; die "PostgreSQL did not come up"; }
}

# Ends the server of start_postgres and waits for it.
stop_postgres() {
    [[ -n ${POSTGRES_PID:-} ]] || return 0
    kill -INT "$POSTGRES_PID" 2>/dev/null || true
    wait "$POSTGRES_PID" 2>/dev/null || true
    POSTGRES_PID=""
}

docker_answers() { timeout 20 docker info >/dev/null 2>&1; }

# Where a Docker Engine answers (DOCKER_HOST, or the usual socket), that one is used. Else, as root, one of this script's
# own: its files, its socket and its bridge are apart from any other engine's, it listens on no network, and it leaves
# the packet filter alone. Exports DOCKER_HOST. Fails where there can be none.
start_docker() {
    if docker_answers; then return 0; fi
    if [[ -n ${DOCKER_HOST:-} ]]; then
        warn "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST"
        return 1
    fi
    if [[ $(id -u) -ne 0 ]] || ! command -v dockerd >/dev/null; then
        warn "no Docker Engine answers, and one can't be started (package docker.io, as root)"
        return 1
    fi
    local block=$((130 + RANDOM % 100)) bridge="none"
    DOCKER_DIRECTORY=$(mktemp -d /tmp/pes-docker.XXXXXX)
    DOCKER_BRIDGE=pes$$
    if ip link add name "$DOCKER_BRIDGE" type bridge 2>/dev/null; then
        ip addr add "10.$block.255.1/24" dev "$DOCKER_BRIDGE"
        ip link set "$DOCKER_BRIDGE" up
        bridge=$DOCKER_BRIDGE
    else
        DOCKER_BRIDGE=""
    fi
    dockerd --data-root "$DOCKER_DIRECTORY/data" --exec-root "$DOCKER_DIRECTORY/exec" \
        --pidfile "$DOCKER_DIRECTORY/pid" --host "unix://$DOCKER_DIRECTORY/docker.sock" --bridge "$bridge" \
        --iptables=false --ip6tables=false --ip-masq=false --userland-proxy=false \
        --default-address-pool "base=10.$block.0.0/17,size=24" >"$DOCKER_DIRECTORY/log" 2>&1 &
    DOCKERD_PID=$!
    export DOCKER_HOST=unix://$DOCKER_DIRECTORY/docker.sock
    if ! wait_until 60 docker_answers; then
        tail -20 "$DOCKER_DIRECTORY/log" >&2
        warn "the Docker Engine did not come up"
        stop_docker
        unset DOCKER_HOST
        return 1
    fi
}

# Ends the engine of start_docker with all that it holds, by its pid; another's is left alone.
stop_docker() {
    [[ -n ${DOCKERD_PID:-} ]] || return 0
    local left mounted
    left=$(timeout 20 docker ps -aq 2>/dev/null || true)
    # shellcheck disable=SC2086
    if [[ -n $left ]]; then timeout 60 docker rm -f -v $left >/dev/null 2>&1 || true; fi
    # Their bridges would stay.
    timeout 20 docker network prune -f >/dev/null 2>&1 || true
    kill -TERM "$DOCKERD_PID" 2>/dev/null || true
    # Its containerd ends with it.
    if ! wait_until 40 docker_has_ended; then kill -KILL "$DOCKERD_PID" 2>/dev/null || true; fi
    wait "$DOCKERD_PID" 2>/dev/null || true
    DOCKERD_PID=""
    while read -r mounted; do
        umount -l "$mounted" 2>/dev/null || true
    done < <(awk -v under="$DOCKER_DIRECTORY/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r)
    if [[ -n ${DOCKER_BRIDGE:-} ]]; then ip link delete "$DOCKER_BRIDGE" 2>/dev/null || true; fi
    rm -rf "$DOCKER_DIRECTORY"
}

# A zombie has ended: this shell has yet to be told.
docker_has_ended() {
    local state
    state=$(sed 's/.*) //' "/proc/$DOCKERD_PID/stat" 2>/dev/null | cut -c1) || return 0
    [[ -z $state || $state == Z ]]
}

# What the image of a whole host under systemd holds beside a minimal Debian: what the unit's jobs and checks meet.
SYSTEMD_IMAGE_PACKAGES=systemd,systemd-sysv,dbus,procps,nginx-light,certbot

# Prints the name of a Docker image of a whole host, of this machine's own release so that what was built here runs
# there. Made once: by one caller while the others wait, kept as a tar under target/test-images, imported where the
# engine doesn't have it. DOCKER_HOST names the engine.
systemd_image() {
    local folder=target/test-images release hash image tar
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
    hash=$(printf '%s\n' "$release" "$SYSTEMD_IMAGE_PACKAGES" 1 | sha256sum | cut -c1-12)
    image=punk-eco-sched-test-systemd:$hash
    tar=$folder/systemd-$hash.tar
    mkdir -p "$folder"
    (
        flock -w 900 9
        if docker image inspect "$image" >/dev/null 2>&1; then exit 0; fi
        if [[ ! -e $tar ]]; then
            # The name's end says what is made: without `.tar` it would be a folder.
            timeout 600 mmdebstrap --quiet --variant=minbase --include="$SYSTEMD_IMAGE_PACKAGES" \
                --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' \
                "$release" "${tar%.tar}.new.tar" >"$tar.log" 2>&1 || { tail -20 "$tar.log" >&2; exit 1; }
            mv "${tar%.tar}.new.tar" "$tar"
        fi
        timeout 300 docker import "$tar" "$image" >/dev/null
    ) 9>"$folder/lock" || { warn "the image of a host under systemd could not be made"; return 1; }
    echo "$image"
}
