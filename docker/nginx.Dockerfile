# nginx 1.27.3 or later: `server … resolve` came to the open-source version then.
ARG NGINX_BASE=nginx:1.30-trixie
FROM ${NGINX_BASE}
COPY docker/healthcheck.sh /usr/local/bin/healthcheck
COPY nginx/nginx.conf.template nginx/entrypoint.sh /etc/chorus/
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chorus \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
USER 10001:10001
ENTRYPOINT ["/etc/chorus/entrypoint.sh"]
