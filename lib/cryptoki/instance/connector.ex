defmodule Cryptoki.Connector do
  @moduledoc false
  # The slow work of a token server, each piece in a process of its own that ends with it: finding
  # the token, fetching the PIN, logging in, opening sessions, looking at the slots. The PIN lives
  # here and in the process of the login, and only until it is handed to the library.

  alias Cryptoki.{Reconnect, Ecdsa, Error, Instances, Login, Names, Options, Pin}

  alias Cryptoki.{Events, Sessions, SessionServer, Watch}
  alias Cryptoki.Native.Wait

  # Overdue sessions are replaced until there are this many times the sessions asked for.
  @overdue_factor 2

  @type facts :: %{
          slot: non_neg_integer,
          token: map,
          read_only: boolean,
          logged_in: boolean,
          login: Login.login(),
          missing_ecdsa: [atom]
        }
  @type look :: {polled :: [map], tokens :: [map]}
  @type opened :: {[pid], shortage :: Error.t() | nil}
  @typedoc "Why not; `:others` when there are tokens and none is the instance's."
  @type trouble :: Login.trouble() | {:others, Reconnect.others(), Error.t()}

  @doc "Runs a job for the calling process, which gets `{:connector, pid, result}`."
  @spec start((() -> term)) :: pid
  def start(job) do
    owner = self()

    spawn_link(fn ->
      Process.flag(:sensitive, true)
      result = Pin.quietly("connecting to the token failed unexpectedly", job)
      send(owner, {:connector, self(), result})
    end)
  end

  @doc "Finds the token, logs in and opens sessions."
  @spec connect(map) :: {:ok, facts, opened} | trouble
  def connect(context) do
    with {:ok, slots} <- slots(context),
         {:ok, %{id: slot, token: token}} <- choose(slots, context.options),
         {:ok, mechanisms} <- control(context, {:mechanisms, slot}),
         {:ok, login} <- log_in(context, slot, token) do
      facts = %{
        slot: slot,
        token: token,
        login: login,
        logged_in: login in [:accepted, :shared],
        missing_ecdsa: Ecdsa.missing(mechanisms),
        read_only: context.options.read_only or :write_protected in flags(token)
      }

      case min(context.options.sessions, room(context)) do
        count when count > 0 ->
          {:ok, facts, open(context, facts, count)}

        _none ->
          {:error, Error.new(:timeout, "all sessions are held by calls that do not return")}
      end
    end
  end

  # Who has given a PIN does not wait until a process that has ended is due to be started again.
  defp slots(%{asked: asked} = context) do
    case control(context, {:slots}) do
      {:error, %Error{reason: :library_crashed}} when asked ->
        with :ok <- reinitialize(context), do: control(context, {:slots})

      answer ->
        answer
    end
  end

  # Where the token wants no login the PIN stays here, as with GnuTLS, unless a person has just given it.
  # The security officer always logs in. Should the token change its mind, see `login_again/2`.
  defp log_in(context, slot, token) do
    wanted = :login_required in flags(token) or context.options.user == :so or context.asked

    cond do
      wanted -> Login.run(context, slot, token)
      Pin.given?(Instances.get(context.instance, context.pin)) -> not_wanted(context)
      true -> {:ok, :none}
    end
  end

  defp not_wanted(context) do
    Events.login_not_wanted(context.name)
    {:ok, :not_wanted}
  end

  @doc "How many sessions there may be beside the overdue ones, which may never come back."
  @spec room(map) :: integer
  def room(context) do
    {:ok, %{overdue: overdue}} = Wait.instance_info(context.native)
    @overdue_factor * context.options.sessions - overdue
  end

  @doc "Logs in again to the token found before, or for the first time when a call was refused for want of it."
  @spec login_again(map, facts) :: {:ok, Login.login()} | trouble
  def login_again(context, facts) do
    deadline = Wait.deadline(context.options.timeout)

    with {:ok, _now} <- Instances.still_there(context.library, facts.slot, facts.token, deadline),
         do: Login.run(context, facts.slot, facts.token)
  end

  @doc "Opens up to `count` sessions; stops at the first that cannot be opened."
  @spec open(map, facts, non_neg_integer) :: opened
  def open(context, facts, count), do: open(context, facts, count, [])

  defp open(_context, _facts, 0, opened), do: {opened, nil}

  defp open(context, facts, count, opened) do
    {:ok, server} = Sessions.start(context.instance)

    request = %{
      instance: context.instance,
      native: context.native,
      token_in_slot: {facts.slot, Instances.identity(facts.token), facts.read_only},
      timeout: context.options.timeout
    }

    case SessionServer.open(server, request) do
      :ok -> open(context, facts, count - 1, [server | opened])
      {:error, error} -> {opened, error}
    end
  end

  @doc """
  Finalises the library and initialises it anew; `:busy` when others use it. A process of it that has ended is started
  again.
  """
  @spec reinitialize(map) :: :ok | {:error, Error.t()}
  def reinitialize(context) do
    # Its own sessions, which are being closed, are no others.
    Sessions.await_closed(context.instance)
    with :ok <- Wait.same_program(context.options), do: control(context, {:reinitialize})
  end

  @doc """
  A look, and how many slot events the library has given so far, nil where it gives none; `:nothing` when
  there was none since `events` and nobody asks for more.
  """
  @spec watch(map, Watch.t(), slots_due :: boolean) ::
          {:ok, :nothing | {look, events :: non_neg_integer | nil}} | {:error, Error.t()}
  def watch(context, watch, slots_due) do
    with {:ok, events} <- control(context, {:events}) do
      if events == watch.events and not slots_due do
        {:ok, :nothing}
      else
        with {:ok, look} <- look(context, watch.look, watch.tokens), do: {:ok, {look, events}}
      end
    end
  end

  @doc "The tokens now in the slots that the instance is meant for; cheap when nothing has changed."
  @spec look(map, previous :: look | nil, known :: [map]) :: {:ok, look} | {:error, Error.t()}
  def look(context, previous, known \\ []) do
    with {:ok, slots} <- control(context, {:poll}) do
      case previous do
        {^slots, _tokens} -> {:ok, previous}
        _changed -> look_closer(context, known)
      end
    end
  end

  # Remembers what it has seen itself: a token may come or go since the poll, and be as it was at the next.
  # A slot that does not answer has what it had.
  defp look_closer(context, known) do
    with {:ok, slots} <- control(context, {:slots}) do
      silent = for %{id: id, token: {:error, _why}} <- slots, do: id
      tokens = for slot <- matching(slots, context.options), do: summary(slot.id, slot.token)
      tokens = tokens ++ Enum.filter(known, &(&1.slot in silent))
      {:ok, {Enum.map(slots, &presence/1), Enum.sort(tokens)}}
    end
  end

  # A slot as a poll shows it.
  defp presence(%{id: id, token: %{serial: serial, label: label}}),
    do: %{id: id, present: true, serial: serial, label: label}

  defp presence(%{id: id, token: none_or_error}),
    do: %{id: id, present: none_or_error != nil, serial: nil, label: nil}

  @doc "What subscribers and `status` are told of a token."
  @spec summary(non_neg_integer, map) :: map
  def summary(slot, token), do: %{slot: slot, label: token.label, serial: token.serial}

  ## The token

  defp choose(slots, options) do
    found = matching(slots, options)
    # Libraries show blank tokens as well: those are meant only when there is nothing else.
    used = Enum.filter(found, &(:token_initialized in flags(&1.token)))

    case if(length(found) > 1, do: used, else: found) do
      [slot] -> {:ok, slot}
      [] -> others(slots, options)
      more -> {:error, ambiguous("#{length(more)} tokens are #{options.token}", more)}
    end
  end

  # A slot that does not answer says nothing about the library, unless it is the one that is meant or none does.
  defp others(slots, options) do
    silent = for %{token: {:error, failure}} = slot <- slots, do: {slot, failure}
    mine = Enum.find(silent, fn {slot, _failure} -> slot.id == options.token.slot_id end)

    cond do
      mine ->
        {:error, Wait.error(elem(mine, 1))}

      silent != [] and length(silent) == length(slots) ->
        {:error, Wait.error(elem(hd(silent), 1))}

      filled(slots) == [] ->
        {:error, absent("no token is #{options.token}", [])}

      true ->
        other_tokens(filled(slots), options)
    end
  end

  defp other_tokens(slots, options) do
    seen = for %{id: id, token: token} <- slots, do: {id, seen_as(id, token)}
    {:others, Enum.sort(seen), absent("no token is #{options.token}", slots)}
  end

  defp seen_as(id, %{} = token), do: summary(id, token)
  defp seen_as(_id, _unreadable), do: nil

  defp absent(why, slots), do: Error.new(:token_absent, "#{why}; #{seen(slots)}")
  defp ambiguous(why, slots), do: Error.new(:token_ambiguous, "#{why}; #{seen(slots)}")

  defp filled(slots) do
    Enum.filter(slots, fn slot ->
      match?(%{token: {:error, _why}}, slot) or :token_present in Names.flags(:slot, slot.flags)
    end)
  end

  defp matching(slots, options),
    do: Enum.filter(slots, &Options.matches_token?(options.token, &1))

  defp seen([]), do: "no slot has a token"

  defp seen(slots) do
    "there are: " <>
      Enum.map_join(slots, ", ", fn
        %{token: %{} = token, id: id} -> "#{inspect(token.label)} in slot #{id}"
        %{id: id} -> "one in slot #{id} that the library cannot read"
      end)
  end

  defp flags(token), do: Names.flags(:token, token.flags)

  defp control(context, op),
    do: Wait.job(context.library, op, Wait.deadline(context.options.timeout))
end
