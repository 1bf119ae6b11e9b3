#!/bin/sh
# Generates, once, what must differ on every machine: a CA, a certificate for each principal, signing keys, an admin token.
# Run by the `prepare` service before anything else. A second run keeps what exists and renews what is about to expire.
# Each principal's directory under $KEYS is a separate volume: no worker can read another's.
set -eu
umask 077

KEYS=${KEYS:-/keys}
TEMPLATES=${TEMPLATES:-/etc/douse}
WORKERS="dispatcher gateway node operator projector responder"
DOUSE=${DOUSE:-douse}
# The keyset pins each node id to its key; deploy/compose/node.yaml has the same.
NODE_ID=00000000000000000000000000c0ffee
DAYS=825
RENEW_SECONDS=2592000  # 30 days

say() { echo "prepare: $*"; }

# The user and group ids that each principal runs as: the Kafka image's user, this image's user, and root for the node.
owner() {
    case $1 in
        kafka) echo 1000:1000 ;;
        node | authority | seaweedfs) echo 0:0 ;;
        *) echo 10001:10001 ;;
    esac
}

give() { # principal: change the owner of its directory to the user it runs as
    [ "$(id -u)" -ne 0 ] || chown -R "$(owner "$1")" "$KEYS/$1"
}

authority() {
    mkdir -p "$KEYS/authority"
    cd "$KEYS/authority"
    [ -s ca.pem ] && return
    say "making a certificate authority"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key
    openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=Douse compose" -out ca.tmp \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign
    mv ca.tmp ca.pem
}

certificate() { # principal, further x509 extensions
    mkdir -p "$KEYS/$1"
    cd "$KEYS/$1"
    cp "$KEYS/authority/ca.pem" ca.pem
    if [ -s tls.pem ] && openssl x509 -in tls.pem -noout -checkend "$RENEW_SECONDS" >/dev/null; then
        return
    fi
    say "making a certificate for $1"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out tls.key
    openssl req -new -key tls.key -subj "/CN=$1" -out tls.csr
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n%s\n' "$2" > tls.ext
    openssl x509 -req -in tls.csr -CA "$KEYS/authority/ca.pem" -CAkey "$KEYS/authority/ca.key" \
        -set_serial "0x$(openssl rand -hex 16)" -sha256 -days "$DAYS" -extfile tls.ext -out tls.tmp 2>/dev/null
    mv tls.tmp tls.pem
    rm tls.csr tls.ext
}

token() {
    [ -s "$KEYS/gateway/gateway.yaml" ] && [ -s "$KEYS/operator/context.yaml" ] && return
    say "making an admin token; docker compose run --rm cli uses it"
    token=$(openssl rand -hex 32)
    digest=$(printf %s "$token" | openssl dgst -sha256 -r | cut -d' ' -f1)
    sed "s/^admin_token_sha256: .*/admin_token_sha256: \"$digest\"/" "$TEMPLATES/gateway.yaml" > "$KEYS/gateway/gateway.yaml"
    printf 'url: http://gateway:8080\ntoken: %s\nbootstrap_servers: kafka:9092\n' "$token" > "$KEYS/operator/context.yaml"
}

object_store() {
    # A node may add objects under its own id, and list and abort its own unfinished uploads. It can neither read nor
    # delete, so an attacker who takes over a node gets no file that was acquired before.
    [ -s "$KEYS/seaweedfs/s3.json" ] && [ -s "$KEYS/node/s3.secret" ] && [ -s "$KEYS/gateway/s3.secret" ] && return
    say "making the object store's credentials"
    for name in node gateway; do
        openssl rand -hex 20 > "$KEYS/$name/s3.secret"
    done
    own="arn:aws:s3:::evidence/$NODE_ID/*"
    put='"Action":["s3:PutObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"]'
    look='"Action":["s3:ListBucketMultipartUploads"],"Resource":["arn:aws:s3:::evidence"]'
    mine="\"Condition\":{\"StringLike\":{\"s3:prefix\":[\"$NODE_ID/*\"]}}"
    node="{\"Effect\":\"Allow\",$put,\"Resource\":[\"$own\"]},{\"Effect\":\"Allow\",$look,$mine}"
    gateway='{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::evidence/*"]}'
    printf '{"identities":[%s,%s],"policies":[%s,%s]}\n' \
        "$(identity node)" "$(identity gateway)" "$(policy node "$node")" "$(policy gateway "$gateway")" \
        > "$KEYS/seaweedfs/s3.json"
}

identity() { # name: SeaweedFS's entry for it
    printf '{"name":"%s","credentials":[{"accessKey":"%s","secretKey":"%s"}],"policyNames":["%s"]}' \
        "$1" "$1" "$(cat "$KEYS/$1/s3.secret")" "$1"
}

policy() { # name, statements: SeaweedFS wants the policy as a string inside its JSON
    printf '{"name":"%s","content":"%s"}' "$1" \
        "$(printf '{"Version":"2012-10-17","Statement":[%s]}' "$2" | sed 's/"/\\"/g')"
}

signing_keys() {
    # operator.key exists only in the operator's directory: no worker needs it.
    if [ ! -s "$KEYS/operator/signing/keyset.json" ]; then
        say "making the keys that sign commands, results and audit"
        rm -rf "$KEYS/operator/signing"
        "$DOUSE" keys init "$KEYS/operator/signing" --node "node=$NODE_ID" >/dev/null
        chmod 600 "$KEYS/operator/signing/keyset.json"
    fi
    for role in dispatcher gateway node projector responder; do
        cp "$KEYS/operator/signing/$role.key" "$KEYS/operator/signing/keyset.json" "$KEYS/$role/"
    done
}

authority
certificate kafka "extendedKeyUsage=serverAuth,clientAuth
subjectAltName=DNS:kafka,DNS:localhost,IP:127.0.0.1"
cat "$KEYS/kafka/tls.key" "$KEYS/kafka/tls.pem" > "$KEYS/kafka/broker.pem"
certificate seaweedfs "extendedKeyUsage=serverAuth
subjectAltName=DNS:seaweedfs,DNS:localhost,IP:127.0.0.1"
for worker in $WORKERS; do
    certificate "$worker" extendedKeyUsage=clientAuth
done
token
object_store
signing_keys
for principal in authority kafka seaweedfs $WORKERS; do
    give "$principal"
done
say done
