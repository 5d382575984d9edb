# What scripts/test, scripts/demo and the benches share: installing what the machine lacks, and a throwaway
# PostgreSQL. Sourced by bash.
# shellcheck shell=bash

say() { printf '\n\033[1m==> %s\033[0m\n' "$*" | if [[ -t 1 && -z ${NO_COLOR:-} ]]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { warn "$*"; exit 1; }

# The folder of PostgreSQL's server programs, newest version first; empty where there is none.
postgres_programs() {
    local initdb
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
    command -v openssl >/dev/null || echo openssl
    command -v mmdebstrap >/dev/null || echo mmdebstrap
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
