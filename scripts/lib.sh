# shellcheck shell=bash
# What scripts/test and scripts/bench share: installing what is missing, private servers, and cleaning up.
# To be sourced in the checkout's root; the trap at the end of a run stops everything that was started.

NAME=$(basename "$0")
SUDO=""
POLICY=""  # a policy-rc.d that this run made
RUN=""     # the folder of this run's servers
JOB=""     # the command that runs now

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s: %s\n' "scripts/$NAME" "$*" >&2; exit 1; }

# ---- what must be installed -------------------------------------------------------------------------------------

# Prints the directory of PostgreSQL's server programs; the newest one if there are several.
postgres_bin() {
  local dir
  for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr); do
    if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then echo "$dir"; return; fi
  done
  dir=$(command -v initdb || true)
  if [ -n "$dir" ]; then dirname "$(readlink -f "$dir")"; fi
}

# Prints the packages of which a program is missing.
missing_packages() {
  command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || echo mariadb-server
  [ -n "$(postgres_bin)" ] || echo postgresql
  command -v prometheus >/dev/null && command -v promtool >/dev/null || echo prometheus
  command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || echo prometheus-alertmanager
  command -v sqlite3 >/dev/null || echo sqlite3
  command -v openssl >/dev/null || echo openssl
  # Debian's python3 has no pip for a venv without its package.
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  # libc6-dev is only recommended by gcc, and recommendations are not installed.
  command -v cc >/dev/null || printf '%s\n' gcc libc6-dev
}

install_packages() {
  local advice="install these packages and run this again: $*"
  command -v apt-get >/dev/null || fail "there is no apt-get here; $advice"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "neither root nor sudo; $advice"
    # Without a terminal sudo must not wait for a password.
    [ -t 0 ] || sudo -n true 2>/dev/null || fail "sudo wants a password; $advice"
    SUDO=sudo
  fi
  say "installing $*"
  # Debian starts a packaged service as soon as it is installed, unless this file says no.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    POLICY=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' | $SUDO tee "$POLICY" >/dev/null
    $SUDO chmod 755 "$POLICY"
  fi
  $SUDO apt-get update -qq || fail "apt-get update failed; $advice"
  $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
    || fail "apt-get install failed; $advice"
  remove_policy
}

remove_policy() {
  if [ -n "$POLICY" ]; then $SUDO rm -f "$POLICY"; fi
  POLICY=""
}

# Makes sure that everything is there, or says what to install and fails.
install_what_is_missing() {
  local packages
  # Programs for administrators are not on every user's path, nor is cargo in every shell.
  PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"
  command -v cargo >/dev/null \
    || fail "cargo is missing: install Rust with rustup (https://rustup.rs) and run this again; rust-toolchain.toml names the version"
  mapfile -t packages < <(missing_packages)
  if [ "${#packages[@]}" -gt 0 ]; then
    install_packages "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] || fail "still missing after apt-get install: ${packages[*]}"
  fi
}

# ---- cleaning up ------------------------------------------------------------------------------------------------

# Ends the servers whose folders are in $1 and removes it. A server's folder holds its `pid`; the process must also
# name the folder in its command line, for the number may belong to another process by now.
remove_run() {
  local file pid signal
  for file in "$1"/*/pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    grep -qsF -- "${file%/pid}" "/proc/$pid/cmdline" || continue
    signal=KILL
    # PostgreSQL's own processes end only if it is asked: QUIT is its "at once".
    if grep -qsa postgres "/proc/$pid/cmdline"; then signal=QUIT; fi
    kill -"$signal" "$pid" 2>/dev/null || true
    for _ in $(seq 50); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$1"
}

cleanup() {
  trap '' INT TERM HUP
  if [ -n "$JOB" ]; then
    kill -TERM -- "-$JOB" 2>/dev/null || true
    wait "$JOB" 2>/dev/null || true
  fi
  if [ -n "$RUN" ]; then remove_run "$RUN"; fi
  remove_policy
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command such that a signal to this script ends it at once: bash would let a foreground command finish first.
run() {
  local status=0
  # Its own process group, for a cargo has children.
  set -m
  "$@" </dev/null &
  JOB=$!
  set +m
  wait "$JOB" || status=$?
  JOB=""
  return "$status"
}

# ---- servers ----------------------------------------------------------------------------------------------------

# Whether somebody listens on a port of 127.0.0.1.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port [WISHED]: the one that is wished for if it is free, else one below the range from which the system takes ports
# for outgoing connections (32768 and up).
free_port() {
  local port=${1:-$((20000 + RANDOM % 12000))}
  while taken "$port"; do port=$((20000 + RANDOM % 12000)); done
  echo "$port"
}

# Runs the rest as user $1 if we are root: neither server is meant to run as root.
as_user() {
  local user=$1
  shift
  if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid="$user" --regid="$user" --init-groups -- "$@"
  fi
  exec "$@"
}

can_enter() { (cd / && as_user "$1" test -x "$2") 2>/dev/null; }

make_run_folder() {
  local parent="${CARGO_TARGET_DIR:-target}/test-servers" elsewhere="${TMPDIR:-/tmp}/token-monitor-test-" old
  mkdir -p "$parent"
  parent=$(cd "$parent" && pwd)
  # What a run left that was ended with SIGKILL. Where anybody may write, it must be ours.
  for old in "$parent"/*/ "$elsewhere"*/; do
    old=${old%/}
    if [[ $old == "$elsewhere"* ]] && { [ -L "$old" ] || [ ! -O "$old" ]; }; then continue; fi
    if [ -e "$old/owner" ] && ! kill -0 "$(cat "$old/owner")" 2>/dev/null; then remove_run "$old"; fi
  done
  RUN=$(mktemp -d "$parent/XXXXXXXX")
  chmod 755 "$RUN"
  if ! can_enter mysql "$RUN" || ! can_enter postgres "$RUN"; then
    # The checkout is in a folder that only root may enter.
    rmdir "$RUN"
    RUN=$(mktemp -d "${elsewhere}XXXXXXXX")
    chmod 755 "$RUN"
  fi
  echo $$ >"$RUN/owner"
  export TEST_SERVERS_DIR="$RUN"
}

# make_data NAME USER: a server's folder, with a data folder that belongs to the server's user.
make_data() {
  mkdir -p "$RUN/$1/data"
  chmod 700 "$RUN/$1/data"
  if [ "$(id -u)" = 0 ]; then chown "$2:" "$RUN/$1/data"; fi
}

# Fails with the end of a server's log.
server_failed() {
  tail -n 20 "$RUN/$1/log" >&2 || true
  fail "$1 does not start; its last lines are above"
}

# wait_for NAME COMMAND...: until the command succeeds; fails if the server ends first or takes over PATIENCE seconds.
wait_for() {
  local name=$1 pid
  shift
  pid=$(cat "$RUN/$name/pid")
  for _ in $(seq $((${PATIENCE:-60} * 10))); do
    kill -0 "$pid" 2>/dev/null || server_failed "$name"
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  server_failed "$name"
}

# A MySQL server speaks first, as soon as it is ready.
mysql_greets() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1" && IFS= read -r -t 2 -N 1 _ <&3)
}

# started NAME PID
started() {
  echo "$2" >"$RUN/$1/pid"
  # Else bash would report the death of a server that cleanup ended.
  disown "$2"
}

prepare_mariadb() {
  make_data mariadb mysql
  (cd "$RUN/mariadb" && as_user mysql mariadb-install-db --no-defaults --datadir="$RUN/mariadb/data" \
    --tmpdir="$RUN/mariadb/data" --auth-root-authentication-method=normal --skip-test-db \
    --innodb-log-file-size=16M) >"$RUN/mariadb/log" 2>&1
}

start_mariadb() {
  local port
  port=$(free_port "${MARIADB_PORT:-}")
  # The tests need no durability; no socket, for its path could be too long. A temporary folder of its own: a server that
  # starts takes temporary tables in /tmp for its own of before, and removes them.
  (cd "$RUN/mariadb" && as_user mysql "$(command -v mariadbd)" --no-defaults --datadir="$RUN/mariadb/data" \
    --tmpdir="$RUN/mariadb/data" --bind-address=127.0.0.1 --port="$port" --socket= --skip-name-resolve --character-set-server=utf8mb4 \
    --max-connections=500 --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size="${TEST_BUFFER:-128M}" --local-infile=1 \
    --innodb-log-file-size=16M) </dev/null >>"$RUN/mariadb/log" 2>&1 &
  started mariadb $!
  export TEST_MYSQL_URL="mysql://root@127.0.0.1:$port/"
}

prepare_postgres() {
  make_data postgres postgres
  (cd "$RUN/postgres" && as_user postgres "$POSTGRES_BIN/initdb" -D "$RUN/postgres/data" -U postgres -A trust \
    -E UTF8 --locale=C --no-sync) >"$RUN/postgres/log" 2>&1
}

start_postgres() {
  local port
  port=$(free_port)
  (cd "$RUN/postgres" && as_user postgres "$POSTGRES_BIN/postgres" -D "$RUN/postgres/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c shared_buffers="${TEST_BUFFER:-64M}B" \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off) </dev/null >>"$RUN/postgres/log" 2>&1 &
  started postgres $!
  export TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/"
}

url_port() { local rest=${1##*:}; echo "${rest%/}"; }

start_servers() {
  local mariadb_made=0 preparing
  POSTGRES_BIN=$(postgres_bin)
  make_run_folder
  prepare_mariadb &
  preparing=$!
  prepare_postgres || server_failed postgres
  wait "$preparing" || mariadb_made=$?
  [ "$mariadb_made" = 0 ] || server_failed mariadb
  start_mariadb
  start_postgres
  wait_for mariadb mysql_greets "$(url_port "$TEST_MYSQL_URL")"
  wait_for postgres "$POSTGRES_BIN/pg_isready" -q -h 127.0.0.1 -p "$(url_port "$TEST_POSTGRES_URL")"
  echo "$TEST_MYSQL_URL $TEST_POSTGRES_URL" >"$RUN/urls"
}

# Whether TEST_MYSQL_URL and TEST_POSTGRES_URL are servers that start_servers has started for a script that still runs, ours
# or the one that called it: a database there is nobody's.
has_test_servers() {
  local dir=${TEST_SERVERS_DIR:-} server
  [ -n "$dir" ] && kill -0 "$(cat "$dir/owner" 2>/dev/null)" 2>/dev/null || return 1
  [ "$(cat "$dir/urls" 2>/dev/null)" = "${TEST_MYSQL_URL:-} ${TEST_POSTGRES_URL:-}" ] || return 1
  for server in mariadb postgres; do
    grep -qsF -- "$dir/$server" "/proc/$(cat "$dir/$server/pid" 2>/dev/null)/cmdline" || return 1
  done
}

# ---- the demo ---------------------------------------------------------------------------------------------------

http_ready() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 \
    && IFS= read -r -t 2 status <&3 && [[ $status == *" 200 "* ]])
}

# start_demo BINARY: the stand-in with the monitor on it, at DEMO_URL, its data in a folder of the run.
start_demo() {
  local port
  port=$(free_port)
  mkdir "$RUN/demo"
  # By a name in the folder, which is how remove_run tells its process.
  cp "$1" "$RUN/demo/token-monitor"
  (cd "$RUN/demo" && LISTEN="127.0.0.1:$port" exec "$RUN/demo/token-monitor" demo) </dev/null >"$RUN/demo/log" 2>&1 &
  started demo $!
  export DEMO_URL="http://127.0.0.1:$port"
  # Days of history are made first, by a build that is not made for speed.
  PATIENCE=240 wait_for demo http_ready "$port"
}

# Ends the demo as an operator would; fails if it did not last until now, or does not end.
stop_demo() {
  local pid
  pid=$(cat "$RUN/demo/pid")
  kill -TERM "$pid" 2>/dev/null || server_failed demo
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  fail "the demo does not stop"
}
