# A throwaway nginx with a page, an ACME server (pebble) and a mail server, for scripts/demo. Sourced after host.sh.
# shellcheck shell=bash

# start_pebble DIR: an ACME server of its own under DIR on free loopback ports, which takes every challenge for passed.
# Sets ACME_SERVER and ACME_AUTHORITY (the certificate of its own HTTPS) and PEBBLE_PID.
start_pebble() {
    local directory=$1 port management
    mkdir -p "$directory"
    port=$(free_port)
    management=$(free_port)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$directory/key.pem" -out "$directory/cert.pem" 2>/dev/null
    cat >"$directory/pebble.json" <<JSON
{ "pebble": { "listenAddress": "127.0.0.1:$port", "managementListenAddress": "127.0.0.1:$management",
  "certificate": "$directory/cert.pem", "privateKey": "$directory/key.pem", "httpPort": 80, "tlsPort": 443 } }
JSON
    PEBBLE_VA_NOSLEEP=1 PEBBLE_VA_ALWAYS_VALID=1 PEBBLE_WFE_NONCEREJECT=0 \
        pebble -config "$directory/pebble.json" >"$directory/log" 2>&1 &
    PEBBLE_PID=$!
    ACME_SERVER=https://localhost:$port/dir
    ACME_AUTHORITY=$directory/cert.pem
    wait_until 20 acme_answers || { cat "$directory/log" >&2; die "pebble did not come up"; }
}

acme_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$(sed 's,.*:\([0-9]*\)/.*,\1,' <<<"$ACME_SERVER")") 2>/dev/null; }

# certbot_at DIR ARGUMENT…: certbot with all of its folders under DIR, as a stranger to this host's own.
certbot_at() {
    local directory=$1
    shift
    REQUESTS_CA_BUNDLE=$ACME_AUTHORITY certbot "$@" --config-dir "$directory/config" --work-dir "$directory/work" \
        --logs-dir "$directory/logs" --non-interactive
}

# start_nginx DIR CERTIFICATES NAME: a site NAME with a page, /health and a certificate of CERTIFICATES/live/NAME,
# on free loopback ports. Sets NGINX_HTTP, NGINX_HTTPS, NGINX_CONF and NGINX_PID.
start_nginx() {
    local directory=$1 certificates=$2 name=$3
    mkdir -p "$directory/html"
    echo '<h1>Punk Eco</h1>' >"$directory/html/index.html"
    NGINX_HTTP=$(free_port)
    NGINX_HTTPS=$(free_port)
    NGINX_CONF=$directory/nginx.conf
    cat >"$NGINX_CONF" <<CONF
daemon off;
pid $directory/nginx.pid;
error_log $directory/error.log;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log $directory/access.log;
    client_body_temp_path $directory/body; proxy_temp_path $directory/proxy; fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi; scgi_temp_path $directory/scgi;
    server {
        listen 127.0.0.1:$NGINX_HTTP;
        listen 127.0.0.1:$NGINX_HTTPS ssl;
        server_name $name;
        ssl_certificate $certificates/live/$name/fullchain.pem;
        ssl_certificate_key $certificates/live/$name/privkey.pem;
        root $directory/html;
        location = /health { default_type text/plain; return 200 "ok\n"; }
    }
}
CONF
    nginx -c "$NGINX_CONF" -p "$directory" >"$directory/log" 2>&1 &
    NGINX_PID=$!
    wait_until 10 test -s "$directory/nginx.pid" || { cat "$directory/log" >&2; die "nginx did not come up"; }
}

# served_serial ADDRESS NAME: the serial of the certificate that is served there.
served_serial() {
    openssl s_client -connect "$1" -servername "$2" </dev/null 2>/dev/null | openssl x509 -noout -serial | cut -d= -f2
}

# start_mail DIR: a mail server that keeps what it receives in DIR/mail. Sets SMTP_PORT and MAIL_PID.
start_mail() {
    local directory=$1
    mkdir -p "$directory"
    SMTP_PORT=$(free_port)
    # The distribution's Python, which has the package; another may come before it in the PATH.
    /usr/bin/python3 -u -m aiosmtpd -n -l "127.0.0.1:$SMTP_PORT" >"$directory/mail" 2>"$directory/log" &
    MAIL_PID=$!
    wait_until 20 mail_answers || { cat "$directory/log" >&2; die "the mail server did not come up"; }
}

mail_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$SMTP_PORT") 2>/dev/null; }

stop_web() {
    local pid
    for pid in "${NGINX_PID:-}" "${PEBBLE_PID:-}" "${MAIL_PID:-}"; do
        [[ -n $pid ]] || continue
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    NGINX_PID="" PEBBLE_PID="" MAIL_PID=""
}
