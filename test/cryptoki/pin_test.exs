defmodule Cryptoki.PinTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Pin}

  @secret "7777-secret"

  def good, do: @secret
  def good(pin), do: {:ok, pin}
  def charlist, do: String.to_charlist(@secret)
  def bad(value), do: value
  def raises, do: raise("this is #{@secret}")
  def throws, do: throw(@secret)
  def exits, do: exit(@secret)
  def matches, do: match(@secret)
  defp match("other"), do: :ok

  describe "fetch/1" do
    test "from every form" do
      variable = "CRYPTOKI_TEST_PIN_#{System.unique_integer([:positive])}"
      System.put_env(variable, @secret)
      path = file(@secret <> "\nsecond line\n")

      for source <- [
            fn -> @secret end,
            fn -> {:ok, @secret} end,
            &charlist/0,
            &__MODULE__.good/0,
            {__MODULE__, :good, []},
            {__MODULE__, :good, [@secret]},
            {__MODULE__, :charlist, []},
            {:env, variable},
            {:env, String.to_charlist(variable)},
            {:file, path},
            {:file, String.to_charlist(path)},
            @secret,
            String.to_charlist(@secret)
          ] do
        assert Pin.fetch(Pin.wrap(source)) == {:ok, @secret}
      end

      System.delete_env(variable)
    end

    test "without a PIN" do
      assert Pin.fetch(Pin.wrap(nil)) == {:ok, :none}
      assert Pin.fetch(Pin.wrap(:protected_path)) == {:ok, :protected_path}
      assert Pin.fetch(Pin.wrap("")) == {:ok, ""}
    end

    test "happens each time" do
      {:ok, agent} = Agent.start_link(fn -> 0 end)
      pin = Pin.wrap(fn -> Agent.get_and_update(agent, &{"pin #{&1}", &1 + 1}) end)
      assert Pin.fetch(pin) == {:ok, "pin 0"}
      assert Pin.fetch(pin) == {:ok, "pin 1"}
    end

    test "text beyond ASCII is UTF-8" do
      assert Pin.fetch(Pin.wrap([0xE4, 0x20AC])) == {:ok, "ä€"}
    end

    test "a file that everybody can read, with a warning; one of a group without" do
      path = file(@secret)
      File.chmod!(path, 0o640)
      refute capture_log(fn -> Pin.fetch(Pin.wrap({:file, path})) end) =~ path
      File.chmod!(path, 0o644)
      log = capture_log(fn -> assert Pin.fetch(Pin.wrap({:file, path})) == {:ok, @secret} end)
      assert log =~ "every user of this machine can read the PIN in #{path}"
      refute log =~ @secret
    end

    test "the first line of a file, without its end" do
      for {content, pin} <- [{"1234", "1234"}, {"1234\r\n", "1234"}, {" 1 \n\n", " 1 "}] do
        assert Pin.fetch(Pin.wrap({:file, file(content)})) == {:ok, pin}
      end
    end
  end

  describe "errors" do
    test "name where the PIN should have come from" do
      missing = Path.join(System.tmp_dir!(), "cryptoki-no-such-pin")
      empty = file("\n1234\n")
      System.put_env("CRYPTOKI_EMPTY_PIN", "")

      for {source, detail} <- [
            {{:env, "CRYPTOKI_NO_SUCH_PIN"},
             "the environment variable CRYPTOKI_NO_SUCH_PIN is not set"},
            {{:env, "CRYPTOKI_EMPTY_PIN"},
             "the environment variable CRYPTOKI_EMPTY_PIN is empty"},
            {{:file, missing}, "#{missing}: no such file or directory"},
            {{:file, System.tmp_dir!()},
             "#{System.tmp_dir!()}: illegal operation on a directory"},
            {{:file, empty}, "the first line of #{empty} is empty"},
            {{:file, file("")}, ~r/is empty$/},
            {&__MODULE__.raises/0, "Cryptoki.PinTest.raises/0 raised RuntimeError"},
            {&__MODULE__.matches/0, "Cryptoki.PinTest.matches/0 raised FunctionClauseError"},
            {{__MODULE__, :nothing, [@secret]},
             "Cryptoki.PinTest.nothing/1 raised UndefinedFunctionError"},
            {{__MODULE__, :throws, []}, "Cryptoki.PinTest.throws/0 threw a value"},
            {{__MODULE__, :exits, []}, "Cryptoki.PinTest.exits/0 exited"},
            {fn -> raise @secret end, "a function of Cryptoki.PinTest raised RuntimeError"}
          ] do
        assert {:error, %Error{reason: :pin_unavailable} = error} = Pin.fetch(Pin.wrap(source))
        assert error.detail =~ detail
        refute Exception.message(error) =~ @secret
      end
    end

    test "tell the type of what a function returned, never the value" do
      for {value, kind} <- [
            {nil, "nil"},
            {:"7777-secret", "an atom"},
            {{:error, @secret}, "a tuple of 2"},
            {{:ok, {:ok, @secret}}, "a tuple of 2"},
            {[@secret, :x], "a list"},
            {[], "a list"},
            {[0x110000, ?s], "a list"},
            {%{pin: @secret}, "a map"},
            {~D[2024-01-01], "a %Date{}"},
            {7777, "an integer"},
            {<<7::3>>, "a bitstring"},
            {fn -> @secret end, "a function"},
            {self(), "something else"}
          ] do
        assert {:error, error} = Pin.fetch(Pin.wrap({__MODULE__, :bad, [value]}))
        assert error.detail == "Cryptoki.PinTest.bad/1 returned #{kind}, not a string"
      end
    end

    test "wrap/1 refuses what is no PIN, and does not show it" do
      for source <- [
            1234,
            :"7777-secret",
            {:env, ""},
            {:env, "A=B"},
            {:env, nil},
            {:file, ""},
            {:file, <<?a, 0>>},
            {:other, @secret},
            {"Module", :function, []},
            {__MODULE__, :good, @secret},
            fn _pin -> @secret end,
            [@secret | :improper],
            %{pin: @secret},
            []
          ] do
        error = assert_raise ArgumentError, fn -> Pin.wrap(source) end
        assert error.message =~ "a PIN must be a function without arguments"
        refute error.message =~ @secret
        assert Pin.cast(source) == :error
      end
    end
  end

  describe "nothing prints it:" do
    @sources [
      {@secret, "#Cryptoki.Pin<string>"},
      {{__MODULE__, :good, [@secret]}, "#Cryptoki.Pin<Cryptoki.PinTest.good/1>"}
    ]

    test "inspect, in any form" do
      for {source, shown} <- @sources do
        pin = Pin.wrap(source)
        assert inspect(pin) == shown
        refute inspect(pin, structs: false, limit: :infinity) =~ @secret
        refute inspect(Map.from_struct(pin), limit: :infinity) =~ @secret
        refute to_string(:io_lib.format("~p ~w ~s", [pin, pin, inspect(pin)])) =~ @secret
      end

      assert inspect(Pin.wrap({:env, "HSM_PIN"})) == "#Cryptoki.Pin<environment variable HSM_PIN>"
      assert inspect(Pin.wrap({:file, "/run/pin"})) == "#Cryptoki.Pin<file /run/pin>"
      assert inspect(Pin.wrap(&__MODULE__.good/0)) == "#Cryptoki.Pin<Cryptoki.PinTest.good/0>"
      assert inspect(Pin.wrap(fn -> "" end)) == "#Cryptoki.Pin<a function of Cryptoki.PinTest>"
      assert inspect(Pin.wrap(:protected_path)) == "#Cryptoki.Pin<protected path>"
      assert inspect(Pin.wrap(nil)) == "#Cryptoki.Pin<none>"
    end

    test "the status and the crash of a process that holds it" do
      for {source, _shown} <- @sources do
        {:ok, agent} = Agent.start(fn -> %{pin: Pin.wrap(source)} end)
        refute inspect(:sys.get_status(agent), structs: false, limit: :infinity) =~ @secret

        log =
          capture_log(fn ->
            catch_exit(Agent.get(agent, fn state -> raise "crash of #{inspect(state)}" end))
          end)

        assert log =~ "crash of"
        refute log =~ @secret
      end
    end

    test "it is wrapped once" do
      pin = Pin.wrap(@secret)
      assert Pin.wrap(pin) == pin
    end
  end

  defp file(content) do
    path = Path.join(System.tmp_dir!(), "cryptoki-pin-#{System.unique_integer([:positive])}")
    File.write!(path, content)
    on_exit(fn -> File.rm!(path) end)
    path
  end
end
