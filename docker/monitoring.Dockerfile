# Prometheus, Alertmanager and the exporters, from Debian's packages. A base that docker/base-image.sh made has them.
ARG MONITORING_BASE=debian:sid-slim
FROM ${MONITORING_BASE}
RUN { command -v promtool && command -v prometheus-blackbox-exporter; } >/dev/null || { apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends prometheus prometheus-alertmanager prometheus-nginx-exporter prometheus-node-exporter \
      prometheus-blackbox-exporter \
 && rm -rf /var/lib/apt/lists/*; }
COPY docker/healthcheck.sh /usr/local/bin/healthcheck
COPY monitoring/prometheus.yml monitoring/alertmanager.sh monitoring/blackbox.yml /etc/chorus/
COPY monitoring/rules /etc/chorus/rules
# A new volume takes over the owner of the folder it is mounted on.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chorus \
 && mkdir -p /prometheus /alertmanager && chown 10001:10001 /prometheus /alertmanager \
 && promtool check config /etc/chorus/prometheus.yml \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
USER 10001:10001
