# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
COMPOSE := docker compose
PYTHON_RUN := ORT_DISABLE_TELEMETRY=1 PYTHONPATH=.:client MODELS_DIR=$(CURDIR)/.models .venv/bin/python -m

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9% -]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-24s %s\n", $$1, $$2}'

.PHONY: up
up: ## install what is missing, build, start, wait for health, and prove it
	@scripts/up.sh

.PHONY: test
test: ## style, types, unit, service and stack tests
	@scripts/test.sh

.PHONY: test-monitoring-away
test-monitoring-away: venv images ## streams while the monitoring is stopped, in a project of its own: MINUTES=10
	@MONITORING_AWAY_MINUTES=$(or $(MINUTES),10) .venv/bin/python -m pytest tests/monitoring -k without_monitoring

.PHONY: lint
lint: ## style and types alone
	@scripts/lint.sh

.PHONY: down
down: ## drain the replicas, stop and remove the containers; models and images stay
	@$(COMPOSE) stop asr tts && $(COMPOSE) --profile '*' down

.PHONY: status
status: ## one table: replica, health, connections, memory, GPU
	@scripts/status.sh

.PHONY: logs
logs: ## follow the logs of every container
	@$(COMPOSE) logs --follow --tail 100
logs-%: ## of one replica or service: make logs-asr-2, make logs-nginx
	@scripts/logs.sh $*

.PHONY: gpu-status
gpu-status: ## each GPU: utilisation, memory, temperature, and the replicas on it
	@scripts/gpu-status.sh

.PHONY: dev
dev: ## both services as plain processes, without Docker
	@scripts/dev.sh

.PHONY: start-asr start-tts stop-asr stop-tts restart-asr restart-tts
start-asr start-tts: start-%: ## start the replicas of a service
	@scripts/service.sh start $*
stop-asr stop-tts: stop-%: ## stop them, after they have drained
	@scripts/service.sh stop $*
restart-asr restart-tts: restart-%: ## restart them, after they have drained
	@scripts/service.sh restart $*

.PHONY: install-systemd uninstall-systemd
install-systemd: ## start the stack with the machine; one service alone: SERVICE=asr
	@scripts/systemd.sh install $(SERVICE)
uninstall-systemd: ## take the units away; what runs goes on
	@scripts/systemd.sh uninstall

.PHONY: rollout
rollout: ## replace the replicas one by one, by new images and settings, no stream cut: make rollout SERVICE=asr
	@scripts/rollout.sh $(SERVICE)

.PHONY: swarm swarm-deploy swarm-remove test-swarm
swarm: ## the stack file for Docker Swarm: .build/swarm.json
	@scripts/swarm.sh render
swarm-deploy: ## deploy the stack on the swarm that this engine manages, or update it, no stream cut
	@scripts/swarm.sh deploy
swarm-remove: ## drain and remove it; models stay
	@scripts/swarm.sh remove
test-swarm: venv images ## the stack on a swarm of one node, made for the test
	@MODELS_DIR=$(CURDIR)/.models .venv/bin/python -m pytest tests/swarm

.PHONY: models
models: ## fetch another model or voice into the stack: make models MODEL=en_GB-alba-medium
	@test -n "$(MODEL)" || { echo "name one: make models MODEL=whisper-base.en, or the id of any Piper voice; listed are:"; $(COMPOSE) run --rm --no-deps -T models list; exit 2; }
	@$(COMPOSE) run --rm --no-deps -T models fetch $(MODEL)

# What is given on the command line only: USERS=60 MINUTES=5 … become LOADTEST_USERS and so on.
LOADTEST_SETTINGS := USERS MINUTES SPAWN_RATE SHAPE PEAK RAMP_S STEP MIX TURN_EVERY_S UTTERANCE_S REPLY_WORDS \
	BARGE_IN_SHARE HANG_UP_SHARE SPEECH_FROM VOICE ARRIVALS_PER_MINUTE TURNS_PER_CALLER THRESHOLDS SEED ASR_URL TTS_URL CA_FILE
LOADTEST_GIVEN = $(foreach name,$(LOADTEST_SETTINGS),$(if $(filter command%,$(origin $(name))),LOADTEST_$(name)='$($(name))'))
LOADTEST_RUN = @$(LOADTEST_GIVEN) SPEECH='$(SPEECH)' scripts/loadtest.sh

.PHONY: loadtest capacity soak
loadtest: ## people on the running stack, checked: USERS=60 MINUTES=5 TURN_EVERY_S=45 MIX=voice=1 SHAPE=steady …
	$(LOADTEST_RUN) run $(ARGS)
capacity: ## how many people the stack holds, by bisection: EVERY="45 20" MINUTES=5
	$(LOADTEST_RUN) capacity --every $(or $(EVERY),45) --minutes $(or $(MINUTES),5) $(ARGS)
soak: ## people who come and go for hours: USERS=60 MINUTES=480
	$(LOADTEST_RUN) soak $(ARGS)

.PHONY: conformance fuzz
conformance: venv ## 626 cases of RFC 6455 on each service, direct and through nginx: ARGS="--only 6.4 H"
	@$(PYTHON_RUN) abuse.conformance $(ARGS)
fuzz: venv ## 100,000 bad inputs a service, and 20,000 through nginx: ARGS="--inputs 5000 --seed 7 --services tts"
	@$(PYTHON_RUN) abuse.fuzz $(ARGS)
.PHONY: chaos abrupt-ends
CHAOS_RUN = @scripts/chaos.sh $(if $(SPEECH),--speech $(SPEECH))
chaos: ## hurt a stack of its own in every way, and write docs/reliability.md: ARGS="faults --only kill dns"
	$(CHAOS_RUN) $(ARGS)
abrupt-ends: ## 10,000 clients a service that end without a word, at a stack of its own
	$(CHAOS_RUN) abrupt $(ARGS)

.PHONY: key revoke
key: ## make an API key and print it, once: make key NAME=phone-app
	@scripts/key.sh add "$(NAME)"
revoke: ## take an API key back: make revoke NAME=phone-app
	@scripts/key.sh remove "$(NAME)"

.PHONY: tls
tls: ## a certificate from a CA of one's own: make tls NAME=speech.example.com; or install one: CERT=… KEY=…
	@CERT='$(CERT)' KEY='$(KEY)' scripts/tls.sh "$(NAME)"

.PHONY: audit
audit: ## known vulnerabilities, how images and containers are confined, and bills of materials (.build/sbom)
	@scripts/audit.sh

.PHONY: images images-gpu
images: ## build the images for this machine
	@scripts/engine.sh
	@scripts/configure.sh
	@scripts/images.sh
images-gpu: ## build the GPU images, on any machine
	@COMPOSE_FILE=compose.yaml scripts/images.sh asr tts

.PHONY: venv
venv: ## the virtual environment of tests and benchmarks
	@scripts/venv.sh

.PHONY: lock
lock: venv ## write the hash-pinned requirements anew
	@scripts/lock.sh

.PHONY: clean
clean: ## remove .venv, .rivals and caches; the stack, its models and .env stay
	@rm -rf .venv .rivals .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: bench-asr bench-asr-accuracy bench-asr-false-text bench-asr-hotwords bench-asr-long bench-asr-reconnect
.PHONY: bench-tts bench-tts-busy bench-tts-overload bench-tts-round-trip bench-tts-first-audio bench-tts-compute bench-tts-encodings
.PHONY: bench-asr-overload bench-serving bench-gpu bench-rollout bench-burst sizing
bench-asr: venv ## final latency by live speakers, beside the rivals: SPEECH=folder ARGS="--quick"
	@$(PYTHON_RUN) benchmarks.asr_speakers $(SPEECH) $(ARGS)
bench-asr-accuracy: venv ## word error rate beside faster-whisper's: SPEECH=folder with manifest.jsonl
	@$(PYTHON_RUN) benchmarks.asr_accuracy $(SPEECH)
bench-asr-false-text: venv ## made-up text beside faster-whisper's: SPEECH=folder with manifest.jsonl
	@$(PYTHON_RUN) benchmarks.asr_false_text $(SPEECH)
bench-asr-hotwords: venv ## rare names with and without hotwords, beside faster-whisper's
	@$(PYTHON_RUN) benchmarks.asr_hotwords
bench-asr-long: venv ## memory and clock of long streams: SPEECH=folder with manifest.jsonl
	@$(PYTHON_RUN) benchmarks.asr_long $(SPEECH)
bench-asr-reconnect: venv ## words of streams whose connections are cut, beside undisturbed ones: SPEECH=folder
	@$(PYTHON_RUN) benchmarks.asr_reconnect $(SPEECH)
bench-tts: venv ## first audio and gaps by listeners, beside the rivals: ARGS="--quick"
	@$(PYTHON_RUN) benchmarks.tts_listeners $(ARGS)
bench-tts-busy: venv ## 24 listeners with a reply every 6 s beside wyoming-piper, and the most that are served in time
	@$(PYTHON_RUN) benchmarks.tts_listeners --systems chorus wyoming-piper --scenarios apart --every 6 --search \
		--listeners 24 --minutes 5 --output benchmarks/results/tts_busy $(ARGS)
bench-tts-overload: venv ## more listeners at the same moment than can be served in time, and one alone before and after
	@$(PYTHON_RUN) benchmarks.tts_overload $(ARGS)
bench-tts-round-trip: venv ## what recognition hears of what synthesis says, beside whole sentences of piper-tts
	@$(PYTHON_RUN) benchmarks.tts_round_trip $(ARGS)
bench-tts-compute: venv ## what the parts of a voice cost, in chunks, whole, and beside piper-tts
	@$(PYTHON_RUN) benchmarks.tts_compute $(ARGS)
bench-tts-first-audio: venv ## time to first audio beside piper-tts's own
	@$(PYTHON_RUN) benchmarks.tts_first_audio
bench-tts-encodings: venv ## what each encoding costs, and loudness beside piper-tts's own
	@$(PYTHON_RUN) benchmarks.tts_encodings $(ARGS)
bench-asr-overload: venv ## twice as many speakers as can be served, with and without admission: SPEECH=folder
	@$(PYTHON_RUN) benchmarks.asr_overload $(SPEECH) $(ARGS)
bench-serving: venv ## the serving layer by itself: delay of 100 and 200 live streams on one core
	@$(PYTHON_RUN) benchmarks.asr_serving $(SPEECH) $(ARGS)
bench-gpu: venv ## latency, throughput, memory, streams, listeners of one GPU, no Docker: ARGS=--dry-run tries it on a CPU
	@$(PYTHON_RUN) benchmarks.gpu $(SPEECH) $(ARGS)
sizing: venv ## how many people, replicas, GPUs, memory: ARGS="--people 100 --turn-every 45", ARGS=--check (docs/sizing.md)
	@$(PYTHON_RUN) benchmarks.sizing $(ARGS)
bench-rollout: venv ## what 20 speakers and 20 listeners notice of five roll-outs of each service: SPEECH=folder
	@$(PYTHON_RUN) benchmarks.rollout $(SPEECH) $(ARGS)
bench-burst: venv ## 80, 100 and 200 streams at once onto two replicas of each service
	@$(PYTHON_RUN) benchmarks.burst $(ARGS)
