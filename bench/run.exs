# What calls cost beside a loop in C on the same library, and beside the other ways to make them; how that goes with callers,
# sessions, bytes, objects and instances; what it costs everybody else; what a process of its own costs. bin/bench says how to run it.
for part <-
      ~w(nif program measure calls world cases curves picture costs sizes waits isolation report),
    do: Code.require_file("parts/#{part}.exs", __DIR__)

alias Bench.{Cases, Costs, Curves, Isolation, Report, Sizes, Waits, World}

Logger.configure(level: :warning)
{[], parts} = OptionParser.parse!(System.argv(), strict: [])
parts = if parts == [], do: ~w(cases curves costs sizes waits isolation), else: parts
report = Report.open(System.fetch_env!("CRYPTOKI_BENCH_OUT"))
begun = System.monotonic_time(:millisecond)
world = World.open()
first_start = Sizes.start_once(world)
Report.machine(report, world)

for part <- parts do
  since = System.monotonic_time(:millisecond)

  case part do
    "cases" -> Report.cases(report, &Cases.run(world, &1), Cases.undisturbed(world))
    "curves" -> Report.curves(report, &Curves.run(world, &1))
    "costs" -> Report.costs(report, &Costs.run(world, &1))
    "sizes" -> Report.sizes(report, Sizes.run(world, first_start))
    "waits" -> Report.waits(report, Waits.run(world))
    "isolation" -> Report.isolation(report, &Isolation.run(world, &1))
  end

  IO.puts(:stderr, "#{part}: #{div(System.monotonic_time(:millisecond) - since, 1000)} s")
end

IO.puts(:stderr, "all: #{div(System.monotonic_time(:millisecond) - begun, 1000)} s")
